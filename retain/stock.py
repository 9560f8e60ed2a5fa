"""Prints what pools of codes have left, and warns of those that are low."""

from __future__ import annotations

from typing import Any

from retain.printing import print_table, warn


def show_stock(pools: list[dict[str, Any]]) -> None:
    """Print the stock of pools, and warn of those that are low."""
    if pools:
        rows = [(row["pool"], row["free"], row["reserved"], row["expired"]) for row in pools]
        print_table(("pool", "free", "reserved", "expired"), rows)
    for row in pools:
        if row["low"]:
            warn(f"pool {row['pool']} is low: {row['free']} codes are left; retain codes import {row['pool']} FILE")

"""What can be said about customers: the feature catalogue, the company's own attributes, one customer's values."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from campaigns.features import FEATURES
from warehouse.facts.errors import FactsError
from warehouse.facts.segment_sql import compute_features

if TYPE_CHECKING:
    from flows.wiring import Workspace


def list_features(ws: Workspace) -> list[dict[str, Any]]:
    """Every name a segment may use: the features with unit and definition, then the customers' own attributes."""
    listed = [
        {
            "name": feature.name,
            "kind": feature.kind,
            "unit": feature.unit,
            "definition": feature.definition,
            "needs": list(feature.needs),
        }
        for feature in FEATURES.values()
    ]
    own = [
        {"name": name, "kind": kind, "unit": "", "definition": "column of your own customers", "needs": ["customers"]}
        for name, kind in sorted(ws.facts.attributes().items())
    ]
    return listed + own


def values_of(ws: Workspace, customer_id: str, *, as_of: datetime) -> dict[str, Any]:
    """One customer's features as of an instant; modelled ones are None where the orders are too few for a model.

    Raises FactsError where there was no such customer then.
    """
    modelled = [feature.name for feature in FEATURES.values() if "model" in feature.needs]
    plain = [name for name in (*FEATURES, *sorted(ws.facts.attributes())) if name not in modelled]
    values = _values(ws, customer_id, plain, as_of=as_of)
    if values is None:
        raise FactsError(f"no customer {customer_id} as of {as_of.date()}; expected the id of a loaded customer")
    try:
        values |= _values(ws, customer_id, modelled, as_of=as_of) or {}
    except FactsError:
        values |= dict.fromkeys(modelled)
    return {name: values[name] for name in (*FEATURES, *plain) if name in values}


def _values(ws: Workspace, customer_id: str, names: list[str], *, as_of: datetime) -> dict[str, Any] | None:
    frame = compute_features(ws.facts, as_of=as_of, names=names, customer_ids=[customer_id], options=ws.feature_options)
    if frame.empty:
        return None
    row = frame.astype(object).where(frame.notna(), None).iloc[0]
    return {str(name): _plain(value) for name, value in row.items() if name != "customer_id"}


def _plain(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value.item() if hasattr(value, "item") else value

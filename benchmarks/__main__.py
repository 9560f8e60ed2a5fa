"""Runs every benchmark (or those named) and prints one JSON line for each result: python -m benchmarks [NAME...]."""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys

import benchmarks


def main(names: list[str]) -> None:
    """Run the modules bench_NAME; without names all of them."""
    found = [m.name for m in pkgutil.iter_modules(benchmarks.__path__) if m.name.startswith("bench_")]
    wanted = [name for name in found if not names or name.removeprefix("bench_") in names]
    for name in wanted:
        for result in importlib.import_module(f"benchmarks.{name}").run():
            print(json.dumps({"benchmark": name.removeprefix("bench_"), **result}, sort_keys=True), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

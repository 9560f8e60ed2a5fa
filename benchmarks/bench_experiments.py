"""The experiment engine against tea-tasting and plain pandas with scipy, on the same rows in the same run.

Three arms, four metrics: a proportion, a mean with CUPED, a mean, a ratio. Sizes: RETAIN_BENCH_UNITS (default
1,000,000 rows), RETAIN_BENCH_ROUNDS (default 5; the best one counts). Polars is measured where it is installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

COLUMNS = ("visit", "spend", "history", "orders")
PAIRS = tuple(itertools.combinations_with_replacement(COLUMNS, 2))
METRICS = ("visit:proportion", "spend:mean", "orders:mean", "per_order=spend/orders:ratio")
COVARIATES = {"spend": "history"}
CONTROL = "control"
_COLD_CODE = "import json, sys; from benchmarks.bench_experiments import cold; print(json.dumps(cold(*sys.argv[1:])))"
MOMENTS = "SELECT variant, count(*), {sums}, {products} FROM {source} GROUP BY variant"
DAYS = "SELECT variant, day, sum(event), count(*) FROM {source} GROUP BY variant, day"


def run() -> list[dict[str, Any]]:
    """Warm times with ratios, survival against its scan, and cold processes with their peak memory."""
    units, rounds = (
        int(os.environ.get("RETAIN_BENCH_UNITS", "1000000")),
        int(os.environ.get("RETAIN_BENCH_ROUNDS", "5")),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "units.parquet"
        _generate(path, units)
        return [*_warm(path, units, rounds), _survival(path, units, rounds), _cold(path, units, rounds)]


def analyze_in_duckdb(connection: Any, source: str) -> Any:
    """One scan for the moments of all arms and metrics, then the engine."""
    return _analyze_rows(_scan(connection, source))


def _analyze_rows(rows: list[tuple[Any, ...]]) -> Any:
    from experiments.analysis import analyze_moments

    moments = {row[0]: _moments(row) for row in sorted(rows)}
    return analyze_moments(moments, control=CONTROL, metrics=METRICS, covariates=COVARIATES)


def analyze_by_tea_tasting(table: Any) -> Any:
    """The same four metrics, every arm against control."""
    tt = importlib.import_module("tea_tasting")
    experiment = tt.Experiment(
        visit=tt.Proportion("visit"),
        spend=tt.Mean("spend", "history"),
        orders=tt.Mean("orders"),
        per_order=tt.RatioOfMeans("spend", "orders"),
    )
    return experiment.analyze(table, control=CONTROL, all_variants=True)


def analyze_by_pandas(frame: Any) -> dict[tuple[str, str], float]:
    """What an analyst writes: group-by moments and scipy's tests; p-values per metric and arm."""
    from scipy import stats

    theta = frame["spend"].cov(frame["history"]) / frame["history"].var()
    table = frame.assign(adjusted=frame["spend"] - theta * (frame["history"] - frame["history"].mean()))
    grouped = table.groupby("variant")[["visit", "adjusted", "orders"]].agg(["mean", "std", "count", "sum"])
    ratios = table.groupby("variant")[["spend", "orders"]].agg(["mean"])
    p_values: dict[tuple[str, str], float] = {}
    linear = {}
    for arm, part in table.groupby("variant"):
        ratio = ratios.loc[arm, ("spend", "mean")] / ratios.loc[arm, ("orders", "mean")]
        units = (part["spend"] - ratio * part["orders"]) / ratios.loc[arm, ("orders", "mean")]
        linear[arm] = (ratio, units.std(), len(units))
    for arm in grouped.index.drop(CONTROL):
        both = [grouped.loc[name, "visit"] for name in (arm, CONTROL)]
        counts = [[side["sum"], side["count"] - side["sum"]] for side in both]
        p_values["visit", arm] = float(stats.chi2_contingency(counts, correction=False).pvalue)
        for metric in ("adjusted", "orders"):
            sides = [grouped.loc[name, metric][["mean", "std", "count"]] for name in (arm, CONTROL)]
            p_values[metric, arm] = float(stats.ttest_ind_from_stats(*sides[0], *sides[1], equal_var=False).pvalue)
        p_values["per_order", arm] = float(
            stats.ttest_ind_from_stats(*linear[arm], *linear[CONTROL], equal_var=False).pvalue
        )
    return p_values


def cold(who: str, path: str) -> dict[str, float]:
    """What a fresh process needs from its first import to the result, and the most memory it held."""
    start = time.perf_counter()
    import duckdb

    connection = duckdb.connect(config={"threads": 2})
    source = f"read_parquet('{path}')"
    if who == "ours":
        analyze_in_duckdb(connection, source)
    elif who == "tea-tasting":
        analyze_by_tea_tasting(connection.sql(f"SELECT variant, {', '.join(COLUMNS)} FROM {source}"))
    return {
        "seconds": time.perf_counter() - start,
        "peak_mb": _peak_mb(),
    }


def _peak_mb() -> float:
    """Peak resident memory of this process. Linux's ru_maxrss would count the parent it was forked from."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return float(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _generate(path: Path, units: int) -> None:
    import duckdb

    connection = duckdb.connect()
    connection.execute("SELECT setseed(0.42)")
    connection.execute(
        "COPY (SELECT ['control', 'mail', 'text'][1 + (hash(i) % 3)::INTEGER] AS variant, "
        "(random() < 0.2)::INTEGER AS visit, CASE WHEN random() < 0.3 THEN -40 * ln(random()) ELSE 0 END AS spend, "
        "-20 * ln(random()) AS history, 1 + floor(random() * 4)::INTEGER AS orders, "
        "least(60, floor(-30 * ln(random())))::INTEGER AS day, (random() < 0.8)::INTEGER AS event "
        f"FROM range({units}) AS t(i)) TO '{path}'"
    )


def _warm(path: Path, units: int, rounds: int) -> list[dict[str, Any]]:
    import duckdb

    connection = duckdb.connect(config={"threads": 2})
    connection.execute(f"CREATE TABLE units AS SELECT * FROM read_parquet('{path}')")
    frame = connection.execute("SELECT * FROM units").df()
    scanned = _scan(connection, "units")
    works: dict[str, Callable[[], Any]] = {
        "the scan alone": lambda: _scan(connection, "units"),
        "ours, from moments to results": lambda: _analyze_rows(scanned),
        "ours on duckdb": lambda: analyze_in_duckdb(connection, "units"),
        "tea-tasting on duckdb": lambda: analyze_by_tea_tasting(connection.table("units")),
        "ours on pandas": lambda: _analyze_frame(frame),
        "tea-tasting on pandas": lambda: analyze_by_tea_tasting(frame),
        "pandas and scipy": lambda: analyze_by_pandas(frame),
    }
    if importlib.util.find_spec("polars") is not None:
        polar = importlib.import_module("polars").from_pandas(frame)
        works["tea-tasting on polars"] = lambda: analyze_by_tea_tasting(polar)
    seconds = _best(works, rounds)
    ours = {"duckdb": seconds["ours on duckdb"], "pandas": seconds["ours on pandas"]}
    return [
        {
            "what": f"analyze, {name}",
            "units": units,
            "seconds": round(taken, 4),
            "ours_over_this": round((ours["pandas"] if "pandas" in name else ours["duckdb"]) / taken, 3),
        }
        for name, taken in seconds.items()
    ]


def _analyze_frame(frame: Any) -> Any:
    from experiments.analysis import analyze

    return analyze(frame, arm="variant", control=CONTROL, metrics=METRICS, covariates=COVARIATES)


def _survival(path: Path, units: int, rounds: int) -> dict[str, Any]:
    """Kaplan-Meier, log-rank and restricted means of three arms, against the scan that counts the days."""
    import duckdb

    connection = duckdb.connect(config={"threads": 2})
    connection.execute(f"CREATE TABLE units AS SELECT * FROM read_parquet('{path}')")
    query = DAYS.format(source="units")
    works: dict[str, Callable[[], Any]] = {
        "scan": lambda: connection.execute(query).fetchall(),
        "ours": lambda: _survive(connection.execute(query).fetchall()),
    }
    seconds = _best(works, rounds)
    return {
        "what": "survival against its scan",
        "units": units,
        "seconds": round(seconds["ours"], 4),
        "scan_seconds": round(seconds["scan"], 4),
        "over_scan": round(seconds["ours"] / seconds["scan"], 3),
    }


def _survive(rows: list[tuple[str, int, int, int]]) -> Any:
    from experiments.aggregates import SurvivalCounts
    from experiments.compare_survival import compare_survival
    from experiments.metrics import Metric
    from experiments.views import survival_view

    days: dict[str, dict[float, tuple[int, int]]] = {}
    for arm, day, events, seen in rows:
        days.setdefault(arm, {})[day] = (int(events), seen - int(events))
    arms = {arm: SurvivalCounts.from_day_counts(counts) for arm, counts in sorted(days.items())}
    metric = Metric("back", "survival", ("day", "event"))
    return survival_view(metric, arms, horizon=30.0), compare_survival(metric, arms, control=CONTROL, horizon=30.0)


def _cold(path: Path, units: int, rounds: int) -> dict[str, Any]:
    """Fresh processes, alternating: import to result, over a Parquet file, with peak memory."""
    seen: dict[str, list[Mapping[str, float]]] = {"ours": [], "tea-tasting": [], "duckdb alone": []}
    for _ in range(rounds):
        for who, results in seen.items():
            call = [sys.executable, "-c", _COLD_CODE, who, str(path)]
            done = subprocess.run(call, capture_output=True, text=True, check=True)
            results.append(json.loads(done.stdout))
    best = {who: min(result["seconds"] for result in results) for who, results in seen.items()}
    peak = {who: min(result["peak_mb"] for result in results) for who, results in seen.items()}
    return {
        "what": "cold process, import to result",
        "units": units,
        "seconds": round(best["ours"], 3),
        "tea_tasting_seconds": round(best["tea-tasting"], 3),
        "over_tea_tasting": round(best["ours"] / best["tea-tasting"], 3),
        "peak_mb": round(peak["ours"]),
        "tea_tasting_peak_mb": round(peak["tea-tasting"]),
        "duckdb_alone_peak_mb": round(peak["duckdb alone"]),
    }


def _scan(connection: Any, source: str) -> list[tuple[Any, ...]]:
    """Counts, means and covariances per arm."""
    query = MOMENTS.format(
        source=source,
        sums=", ".join(f"avg({column})" for column in COLUMNS),
        products=", ".join(f"covar_samp({first}, {second})" for first, second in PAIRS),
    )
    rows: list[tuple[Any, ...]] = connection.execute(query).fetchall()
    return rows


def _moments(row: tuple[Any, ...]) -> Any:
    from experiments.aggregates import Moments

    width = len(COLUMNS)
    n, means, products = row[1], row[2 : 2 + width], row[2 + width :]
    known = dict(zip(PAIRS, products, strict=True))
    known |= {(second, first): value for (first, second), value in known.items()}
    cov = [[known[first, second] for second in COLUMNS] for first in COLUMNS]
    return Moments.from_summary(COLUMNS, n, means, cov)


def _best(works: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """The best time of each, rounds interleaved, so that a busy moment strikes all alike."""
    best = dict.fromkeys(works, float("inf"))
    for _ in range(rounds + 1):  # the first round warms up
        for name, work in works.items():
            start = time.perf_counter()
            work()
            best[name] = min(best[name], time.perf_counter() - start)
    return best

"""nccl-tests' JSON, version 3, with keys of our own: `transport`, `fit` and what is to be known about the fit.

Types are as there, so that its readers need no change: flags are the texts "true" and "false", `root` is a text,
`env` a list of NAME=value. But where nccl-tests writes out the whole environment, secrets and all, only variables
that change the measurement are named here. The document is whole after every size: until the sweep has ended,
`end_time` is null and `fit` empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from roofprobe.alpha_beta import Fit
from roofprobe.collectives.link_baseline import LinkBaseline
from roofprobe.collectives.pairwise import Pair, find_slow
from roofprobe.collectives.results import Placement, RankInfo, Row, SweepPlan, average_bus_gb_per_s, out_of_bounds
from roofprobe.collectives.sweep_counters import HostCounters
from roofprobe.collectives.table import summarize
from roofprobe.collectives.transport_records import TransportProof
from roofprobe.environment import VARIABLES
from roofprobe.latency_record import LatencyPoint, latency_figures

VERSION = 3


@dataclass(frozen=True)
class Header:
    """What is known before the first size is measured."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    nccl_version: int | None
    """As nccl-tests codes it, 22903 for 2.29.3; None for gloo."""
    plan: SweepPlan
    ranks: tuple[RankInfo, ...]
    transport: str
    bus_factor: float
    started: datetime
    pairs: tuple[Pair, ...] = ()
    """Each two ranks alone, where that was asked for."""
    moved_as_bytes: bool = False
    """Whether the backend was given uint8 instead of the plan's type, which it refuses."""
    proof: TransportProof | None = None
    """What `transport` sums up; None where the ranks never came together."""
    links: tuple[LinkBaseline, ...] = ()
    """The raw links between hosts, where they were measured."""


def document(
    header: Header,
    rows: Sequence[Row],
    fit: Fit | None,
    ended: datetime | None,
    errors: Sequence[str] = (),
    latency: Sequence[LatencyPoint] = (),
    latency_findings: Sequence[str] = (),
    counters: Sequence[HostCounters] = (),
) -> dict[str, Any]:
    """The document after `rows`; `fit` and `ended` once the sweep is over, `errors` where a fault ended it."""
    wrong = out_of_bounds(rows)
    return {
        "version": VERSION,
        "start_time": _time(header.started),
        "args": list(header.arguments),
        "env": [f"{name}={header.environment[name]}" for name in VARIABLES if name in header.environment],
        "nccl_version": header.nccl_version,
        "config": _config(header.plan, header.ranks),
        "transport": header.transport,
        **_network(header),
        "results": [_result(row, header.plan, header.bus_factor) for row in rows],
        "out_of_bounds": {"count": wrong, "okay": _flag(wrong == 0)},
        "average_bus_bandwidth": {"bandwidth": average_bus_gb_per_s(rows, header.bus_factor), "okay": "unchecked"},
        "fit": [msgspec.to_builtins(segment) for segment in fit.segments] if fit else [],
        "fit_note": fit.note if fit else None,
        "fit_held_out_error": msgspec.to_builtins(fit.held_out_error_fraction) if fit else None,
        "latency": [latency_figures(point) for point in latency],
        "latency_findings": list(latency_findings),
        "sweep_counters": msgspec.to_builtins(counters),
        "pairs": [msgspec.to_builtins(pair) for pair in header.pairs],
        "pair_findings": find_slow(header.pairs, header.ranks),
        "errors": list(errors),
        "end_time": _time(ended) if ended else None,
    }


def _network(header: Header) -> dict[str, Any]:
    """What stands behind `transport`: each pair of ranks, the counters that were seen, and faults as in `doctor`."""
    proof = header.proof
    return {
        "transport_pairs": msgspec.to_builtins(proof.pairs) if proof else [],
        "transport_traffic": msgspec.to_builtins(proof.traffic) if proof else [],
        "link_baseline": [
            {**msgspec.to_builtins(link), "raw_gbit_per_s": link.raw_gbit_per_s} for link in header.links
        ],
        "faults": msgspec.to_builtins(proof.faults) if proof else [],
    }


def _config(plan: SweepPlan, ranks: Sequence[RankInfo]) -> dict[str, Any]:
    step = {"step_factor": plan.step_factor} if plan.step_factor > 1 else {"step_bytes": plan.step_bytes}
    return {
        "nthreads": 1,
        "ngpus": 1,
        "minimum_bytes": plan.min_bytes,
        "maximum_bytes": plan.max_bytes,
        **step,
        "warmup_iters": plan.warmup_iterations,
        "iterations": plan.iterations,
        "aggregated_iterations": 1,
        "validation": plan.checks,
        "graph": plan.graph_launches,
        "blocking_collectives": _flag(plan.blocking != 0),
        "per_iter_timing": _flag(plan.per_iteration),
        "per_iter_skip": 0,
        "parallel_init": "false",
        "devices": [
            {
                "rank": r.rank,
                "group": 0,
                "pid": r.pid,
                "hostname": r.host,
                "device": r.device_index,
                "device_hex": r.device_address,
                "device_info": r.device_name,
            }
            for r in ranks
        ],
    }


def _result(row: Row, plan: SweepPlan, bus_factor: float) -> dict[str, Any]:
    result: dict[str, Any] = {
        "size": row.bytes,
        "count": row.count,
        "type": plan.dtype,
        "redop": plan.reduction,
        "root": f"{plan.root:6d}",
    }
    for key, placement in (("out_of_place", row.out_of_place), ("in_place", row.in_place)):
        rate = row.algorithm_gb_per_s(placement)
        result[key] = {
            "time": placement.mean_seconds * 1e6,
            "alg_bw": rate,
            "bus_bw": rate * bus_factor,
            "nwrong": placement.wrong,
        }
        if plan.per_iteration:
            result[f"{key}_per_iter"] = _iterations(placement)
    result["actual_iterations"] = plan.iterations
    result["experiment_name"] = ""
    return result


def _iterations(placement: Placement) -> dict[str, Any]:
    s = summarize(placement.slowest_seconds)
    return {
        "skipped_iterations": 0,
        "min_us": s.minimum * 1e6,
        "max_us": s.maximum * 1e6,
        "avg_us": s.mean * 1e6,
        "p50_us": s.p50 * 1e6,
        "p95_us": s.p95 * 1e6,
        "p99_us": s.p99 * 1e6,
        "stdev_us": s.deviation * 1e6,
        "cv_pct": s.variation_percent,
        "times_us": [seconds * 1e6 for seconds in placement.slowest_seconds],
        "per_process_max_times_us": [[seconds * 1e6 for seconds in rank] for rank in placement.rank_seconds],
    }


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S")

"""An acceptance for Prometheus: the text that node_exporter's textfile collector picks up (``*.prom``).

A verdict is a state set, as a gauge of 0 or 1 for each of the four, so that an alert is one comparison:
``roofprobe_accept_check_verdict{verdict="FAIL"} == 1``.
"""

from __future__ import annotations

from datetime import datetime
from typing import get_args

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from roofprobe.acceptance.folder import Acceptance
from roofprobe.acceptance.verdict import Verdict


def as_prometheus(acceptance: Acceptance) -> str:
    """The metrics in Prometheus' text format. Units are the check's own, in the label `unit`; a share has none."""
    registry = CollectorRegistry()
    common = {"host": acceptance.host, "platform": acceptance.platform}

    def gauge(name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"roofprobe_accept_{name}", text, (*common, *labels), registry=registry)

    gauge("exit_status", "0 pass, 1 fail, 3 a required check was not decided").labels(**common).set(
        acceptance.exit_status
    )
    began = _seconds(acceptance.created)
    if began is not None:
        gauge("run_timestamp_seconds", "When the judged run began").labels(**common).set(began)
    verdict = gauge("check_verdict", "1 for the verdict that the check has", "check", "required", "verdict")
    measured = gauge("check_measured", "What was measured", "check", "unit")
    low = gauge("check_interval_low", "Lower end of its 95 % interval", "check", "unit")
    high = gauge("check_interval_high", "Upper end of its 95 % interval", "check", "unit")
    limit = gauge("check_limit", "What it is held against", "check", "unit", "bound")
    fault = gauge("fault", "1 for each fault found", "fault", "fault_host")
    for check in acceptance.checks:
        required = str(check.required).lower()
        for word in get_args(Verdict):
            labels = {**common, "check": check.check, "required": required, "verdict": word}
            verdict.labels(**labels).set(float(check.verdict == word))
        named = {**common, "check": check.check, "unit": check.unit}
        if check.measured is not None:
            measured.labels(**named).set(check.measured)
        if check.interval is not None:
            low.labels(**named).set(check.interval[0])
            high.labels(**named).set(check.interval[1])
        for bound in check.limits:
            limit.labels(**named, bound=bound.kind).set(bound.value)
    for found in acceptance.faults:
        fault.labels(**common, fault=found.id, fault_host=found.host).set(1)
    return generate_latest(registry).decode()


def _seconds(created: str) -> float | None:
    try:
        return datetime.fromisoformat(created).timestamp()
    except ValueError:
        return None

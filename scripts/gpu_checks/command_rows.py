"""What roofprobe's commands measured, as the validation's lines: a reading that can't be believed is never ``ok``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gpu_checks.lines import Status, say


def row(measured: Any) -> None:
    """A measurement as `roofprobe.measurement.figures` gives it."""
    op = measured["op"]
    shape = "x".join(str(measured[key]) for key in ("n", "k") if measured.get(key))
    kind = measured.get("format")
    batch = f" batch {measured['batch']}" if measured.get("batch") else ""
    experts = f", {measured['top_k']} of {measured['experts']} experts" if measured.get("experts") else ""
    name = " ".join(filter(None, (measured["side"], measured["probe"], op, kind, f"{shape}{batch}{experts}")))
    status, told = judged(measured)
    say(
        f"{name} by {measured['backend']}",
        status,
        told,
        **{key: measured.get(key) for key in ("side", "probe", "op", "format", "backend")},
        shape=f"{shape}{batch}{experts}",
        gb_per_s=short(measured["gb_per_s"]),
        interval=_shorts(measured.get("interval")),
        ceiling_fraction=short(measured.get("ceiling_fraction")),
        nominal_fraction=short(measured.get("nominal_fraction")),
        contended=measured.get("contended") or None,
    )


def judged(measured: Any) -> tuple[Status, str]:
    """A reading's status and why: ``wrong`` elements; ``invalid`` where impossible or unverified."""
    if measured.get("wrong"):
        return "wrong", f"{measured['wrong']} elements wrong"
    if measured.get("invalid"):
        return "invalid", str(measured["invalid"])
    if measured.get("wrong") is None:
        return "invalid", "the result was not verified"
    return "ok", "CONTENDED: other work disturbed it" if measured.get("contended") else ""


def say_all_reduce(case: str, found: Any, status: int) -> None:
    """nccl-tests' document: what it went over, its fit, and how many elements were wrong."""
    columns = [each[column] for each in found["results"] for column in ("out_of_place", "in_place") if column in each]
    wrong = sum(int(column.get("nwrong") or 0) for column in columns)
    fit = found.get("fit") or []
    say(
        case,
        "wrong" if wrong else "failed" if status == 1 else "ok",
        f"{wrong} elements wrong" if wrong else "",
        sizes=len(found["results"]),
        transport=found.get("transport"),
        alpha_us=short(fit[0]["alpha_us"]) if fit else None,
        beta_gb_per_s=short(fit[-1]["beta_gb_per_s"]) if fit else None,
    )


def say_load(found: Any, telemetry: Path) -> None:
    """The sentinels before and after, the matrix product, and what NVML told meanwhile."""
    for each in found["sentinels"]:
        if each["phase"] == "during":
            continue
        status, told = judged(each)
        name = f"{each['side']} {each['sentinel']} {each['phase']} load"
        say(name, status, told, rate=short(each["rate"]), unit=each["unit"], contended=each["contended"] or None)
    for each in found["matmul"]:
        status, told = judged(each)
        rate, peak = short(each["tflop_per_s"]), short(each["peak_fraction"])
        say(f"{each['side']} matmul", status, told, tflop_per_s=rate, peak_fraction=peak)
    for each in found["skipped"]:
        say(f"{each['probe']} {each['case']}", "skipped", each["reason"])
    lines = telemetry.read_text().splitlines() if telemetry.is_file() else []
    samples = [each for each in map(json.loads, lines) if "sentinel" not in each]
    fields = sorted({key for each in samples for key, value in each.items() if value is not None} - {"t_s"})
    if fields:
        say("telemetry", "ok", samples=len(samples), fields=", ".join(fields))
    else:
        say("telemetry", "skipped", "NVML told nothing")


def say_tuned(case: str, entry: Any) -> None:
    """A tuned kernel's entry of the profile."""
    config = ", ".join(f"{key} {value}" for key, value in entry["config"].items())
    say(
        case,
        "ok",
        "the default stays" if entry["keep_default"] else "",
        shape=f"{entry['n']}x{entry['k']}",
        config=config,
        speedup=short(entry.get("speedup")),
        interval=_shorts(entry.get("interval")),
        gb_per_s=short(entry["bytes"] / entry["seconds"] / 1e9),
        tried=entry["tried"],
        contended=entry.get("contended") or None,
    )


def short(value: float | None) -> float | None:
    """Four digits: more would claim more than a run tells."""
    return None if value is None else float(f"{value:.4g}")


def _shorts(values: Any) -> list[float | None] | None:
    return None if values is None else [short(each) for each in values]

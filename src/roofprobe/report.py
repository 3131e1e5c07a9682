"""report.html: a run for people, in one file that needs no network and no script.

One section for each memory that was measured, so that a CPU's figure never stands under a GPU's heading, then one
for each collective, what was skipped, and the environment. Every figure is a record's own
(`roofprobe.measurement`); an invalid reading is shown struck through with its reason, and never as a bar.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import jinja2
import msgspec

from roofprobe import units
from roofprobe.acceptance.folder import Acceptance, drawable, read_acceptance
from roofprobe.acceptance.output import summary
from roofprobe.acceptance.rules import told
from roofprobe.ceiling import platforms
from roofprobe.files import write_whole
from roofprobe.measurement import Device, Measurement
from roofprobe.profile import TuningProfile, build_profile
from roofprobe.report_decode import CONTEXT, TERMS, claims_section, decode_section
from roofprobe.report_panels import (
    POOR_FIT,
    ROOFLINE_MARKS,
    SIDES,
    ceiling_row,
    collective_panel,
    disturbed,
    label,
    library,
    panels,
    poor_fit,
    roofline,
)
from roofprobe.run_file import Run, read_run

TEMPLATES = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Highlight:
    """One of the few figures at the top."""

    label: str
    value: str
    detail: str


def write_report(directory: Path) -> Path:
    """Draws report.html from `directory`'s measurements.jsonl and acceptance.json; returns its path.

    Raises BadInput where the records can't be read or the report can't be written.
    """
    path = directory / "report.html"
    write_whole(path, render(read_run(directory), read_acceptance(directory)))
    return path


def render(run: Run, acceptance: Acceptance | None = None) -> str:
    """The report as one HTML document: every text of a record escaped, the same for the same run.

    `acceptance`: the verdicts on it, where `roofprobe accept` has judged it.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for filter_ in (
        units.number,
        units.rate,
        units.percent,
        units.between,
        units.percent_between,
        units.size,
        units.billions,
        units.duration,
        units.settings,
        label,
        library,
        roofline,
        told,
    ):
        environment.filters[filter_.__name__] = filter_
    environment.tests["disturbed"] = disturbed
    environment.tests["poor"] = poor_fit
    known, run = run, drawable(run)
    profile = _profile(run)
    return environment.get_template("report.html").render(
        run=run,
        machine=machine(run),
        when=when(run),
        headline=headline(run),
        highlights=highlights(run),
        cautions=[*undrawable(known, run), *cautions(run)],
        panels=panels(run),
        collectives=[collective_panel(c, f"collective-{i}") for i, c in enumerate(run.collectives, start=1)],
        environment=environment_rows(run),
        acceptance=acceptance,
        acceptance_summary=None if acceptance is None else summary(acceptance),
        decode=None if profile is None else decode_section(profile),
        context=CONTEXT,
        terms=TERMS,
        claims=claims_section(profile),
        roofline_marks=ROOFLINE_MARKS,
    )


def _profile(run: Run) -> TuningProfile | None:
    """None where the records' words are not a profile's: what they measured is shown all the same."""
    try:
        return build_profile(run)
    except msgspec.ValidationError:
        return None


def machine(run: Run) -> str:
    """The machine's name for people: its platform's, or else what it says of itself."""
    e = run.environment
    title = next((p.title for p in platforms() if p.name == e.platform), e.platform)
    return title or next((d.name for d in e.devices), e.cpu_model)


def when(run: Run) -> str:
    """When the run began, to the minute."""
    try:
        return f"{datetime.fromisoformat(run.environment.created):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return run.environment.created


def headline(run: Run) -> str:
    """The run in one line: the first memory's read ceiling and what share of the nominal one that is."""
    for panel in panels(run):
        read = ceiling_row(panel.rows, "read")
        if read is not None:
            return f"{SIDES[panel.side]} memory read {units.rate(read.gb_per_s)}, {_share_of_nominal(read)}"
    return "no memory read was measured"


def highlights(run: Run) -> list[Highlight]:
    """What a reader wants first: memory, the kernels' shares of it, the link; only what was validly measured."""
    found = []
    shown = set()
    for panel in panels(run):
        side = SIDES[panel.side]
        read = ceiling_row(panel.rows, "read")
        # A side comes first as a whole, then by its core types, say: those are for the sections below.
        if read is not None and side not in shown:
            shown.add(side)
            detail = f"{_share_of_nominal(read)}; {panel.memory}"
            found.append(Highlight(f"{side} memory read", units.rate(read.gb_per_s), detail))
        kernels: dict[tuple[str, str, str | None], list[float]] = {}
        for m in panel.rows:
            ours = m.probe != "memory" and not m.is_baseline and not m.invalid
            if ours and m.residency == "cold" and m.ceiling_fraction is not None:
                kernels.setdefault((m.op, m.format, m.reference), []).append(m.ceiling_fraction)
        for (op, format_, reference), shares in kernels.items():
            low, high = units.percent(min(shares)), units.percent(max(shares))
            span = low if low == high else f"{low.removesuffix(' %')}–{high}"
            found.append(Highlight(f"{side} {op} {format_}", span, f"of the measured {reference} ceiling"))
    for c in run.collectives:
        if c.fit and c.bus_factor:
            poor = "⚠ by a poor fit" if any(poor_fit(s) for s in c.fit) else "by the fit"
            name, where = f"{c.op}, {c.world_size} ranks", f"{poor}; {c.transport}"
            found.append(Highlight(f"{name}: latency", units.duration(c.fit[0].alpha_us * 1e-6), where))
            found.append(Highlight(f"{name}: bus rate", units.rate(c.fit[-1].beta_gb_per_s), where))
    return found


def _share_of_nominal(m: Measurement) -> str:
    share = m.nominal_fraction
    known = "no nominal ceiling known" if share is None else f"{units.percent(share)} of nominal"
    return f"{known} (⚠ machine busy: a floor)" if disturbed(m) else known


def undrawable(known: Run, drawn: Run) -> list[str]:
    """How much of a run was left out of the report, if anything was."""
    left = len(known.measurements) - len(drawn.measurements)
    left += sum(len(a.points) - len(b.points) for a, b in zip(known.collectives, drawn.collectives, strict=True))
    if not left:
        return []
    return [f"{_count(left, 'reading')} can't be shown: no time above 0, no bytes, or a size that is none."]


def cautions(run: Run) -> list[str]:
    """What a reader must know before believing a figure."""
    found = []
    if run.ended is None:
        found.append("This run has no end record: it crashed, was killed or still runs. What it measured is below.")
    elif run.ended.interrupted:
        found.append("This run was interrupted. What it had measured is below; the rest is missing.")
    invalid = sum(1 for m in run.measurements if m.invalid)
    if invalid:
        found.append(f"{_count(invalid, 'row')} can't be used: struck through, each with its reason.")
    wrong = sum(1 for c in run.collectives for p in c.points if p.wrong)
    if wrong:
        found.append(f"{_count(wrong, 'message size')} of a collective gave wrong results: marked with ✕.")
    poor = sum(1 for c in run.collectives if any(poor_fit(s) for s in c.fit))
    if poor:
        found.append(f"{_count(poor, 'fit')} of a collective missed a size by more than {units.percent(POOR_FIT)}.")
    busy = sum(1 for m in run.measurements if not m.invalid and disturbed(m))
    if busy:
        rows = _count(busy, "row")
        found.append(f"The machine was busy: in {rows} most samples were disturbed (⚠). Such a rate is a floor.")
    return found


def environment_rows(run: Run) -> list[tuple[str, str]]:
    """The facts of the environment record, in words."""
    e = run.environment
    available = f"{units.size(e.memory_available_bytes)} available at the start"
    rows = [
        ("host", e.host),
        ("platform", e.platform or "unknown: no nominal ceiling"),
        ("product", e.product),
        *((f"GPU {d.index}", _device(d)) for d in e.devices),
        ("CPU", f"{e.cpu_model}, {e.cpus} usable CPUs, {e.architecture}"),
        ("last-level cache", units.size(e.last_level_cache_bytes)),
        ("memory", f"{units.size(e.memory_bytes)}, {available}"),
        ("kernel", e.kernel),
        ("NVIDIA driver", e.driver),
        ("CUDA", e.cuda),
        ("NCCL", e.nccl),
        ("torch", e.torch),
        ("Triton", e.triton),
        ("numba", e.numba),
        ("cupy", e.cupy),
        ("Python", f"{e.python} from {e.interpreter}"),
        ("roofprobe", e.roofprobe),
        *((name, value) for name, value in e.variables.items()),
    ]
    return [(name, value or "none") for name, value in rows]


def _device(d: Device) -> str:
    memory = f"{units.size(d.memory_bytes)}{' shared with the CPU' if d.integrated else ''}"
    return f"{d.name}: cc {d.compute_capability}, {d.multiprocessors} SMs, L2 {units.size(d.l2_bytes)}, {memory}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"

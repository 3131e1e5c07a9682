"""The latency of small all-reduces as lines of text, each a comment to whoever parses the table above them."""

from __future__ import annotations

from collections.abc import Sequence

from roofprobe.collectives.latency_plan import model_sizes
from roofprobe.collectives.results import RankInfo
from roofprobe.latency_record import FEWEST_SAMPLES, LatencyPoint

MARK = "# latency:"


def head(world_size: int) -> list[str]:
    """What the numbers mean, and the columns."""
    columns = "".join(f"  {f'p{percent:g}':>9}" for percent in FEWEST_SAMPLES)
    return [
        f"{MARK} all_reduce in place over {world_size} ranks: us an operation, from the last start to the last end",
        f"{MARK} ranks start together at an agreed moment; a sample of many operations is divided by their number",
        f"{MARK} {'size':>8}  {'mode':<9}  {'ops':>3}{columns}  {'samples':>7}  {'wrong':>6}",
    ]


def row(point: LatencyPoint) -> str:
    """One size in one mode; for a mode that can't be had, which is so at every size, why."""
    if not point.samples_us:
        return f"{MARK} {'any':>8}  {point.mode:<9}  {point.operations:3d}  N/A: {point.note}"
    line = f"{MARK} {point.bytes:8d}  {point.mode:<9}  {point.operations:3d}"
    for percent in FEWEST_SAMPLES:
        value = point.percentile(percent)
        line += f"  {'N/A':>9}" if value is None else f"  {value:9.1f}"
    wrong = "N/A" if point.wrong is None else str(point.wrong)
    sent_by = model_sizes().get(point.bytes) if point.mode == "isolated" else None
    after = "".join(f"  {text}" for text in (point.note, sent_by) if text)
    return f"{line}  {len(point.samples_us):7d}  {wrong:>6}{after}"


def tail(points: Sequence[LatencyPoint], findings: Sequence[str], ranks: Sequence[RankInfo]) -> list[str]:
    """Each rank's isolated samples over all sizes, who was wrong, and what was found."""
    isolated = [point for point in points if point.mode == "isolated"]
    lines = []
    for info in ranks if isolated else ():
        own = [point.ranks[info.rank] for point in isolated]
        late = sorted(each.late_p50_us for each in own)
        lines.append(
            f"{MARK} rank {info.rank} on {info.host}, isolated: own time {min(r.minimum_us for r in own):.1f} to"
            f" {max(r.maximum_us for r in own):.1f} us, mean {sum(r.mean_us for r in own) / len(own):.1f}; starts"
            f" {late[len(late) // 2]:.1f} us after the first (median; p99 {max(r.late_p99_us for r in own):.1f})"
        )
    if isolated and isolated[0].clock_us:
        lines.append(f"{MARK} the ranks' clocks agree within {max(p.clock_us for p in isolated):.1f} us")
    lines += [
        f"{MARK} wrong: rank {info.rank} on {info.host}: {point.rank_wrong[info.rank]} elements, {point.mode} of"
        f" {point.bytes} B"
        for point in points
        for info in ranks
        if point.rank_wrong is not None and point.rank_wrong[info.rank]
    ]
    return lines + [f"{MARK} {finding}" for finding in findings]

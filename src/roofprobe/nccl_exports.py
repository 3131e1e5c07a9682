"""NCCL settings in the two forms that NCCL takes: an environment file, and the rules of its example tuner plugin.

A rule is ``collective,min,max,algo,proto,channels,nNodes,nRanks,numPipeOps,regBuff`` (nccl, ext-tuner/example). The
plugin reads no header and mistakes an unknown word for allreduce, ring or simple; a message without a rule is sent on
one channel. So the rules cover every size, name every field, and nothing is written that was not measured.
"""

from __future__ import annotations

from roofprobe.nccl_tuning import NcclTuning
from roofprobe.shell_text import comment, export

LARGEST_BYTES = 2**64 - 1
"""The plugin keeps sizes in a size_t."""
ANY = -1


def environment_file(tuning: NcclTuning) -> str:
    """Lines for ``. FILE`` or ``set -a``: one export a variable; comments alone where the defaults are to be kept."""
    lines = [comment(f"NCCL all-reduce, {_group(tuning)}, measured {tuning.created}")]
    if tuning.everywhere is None:
        return "\n".join([*lines, "# keep the defaults: no setting was better at some size and no worse at any", ""])
    found = next(c for c in tuning.candidates if c.setting == tuning.everywhere)
    best = min(found.ratios, key=lambda r: r.ratio)
    worst = max(found.ratios, key=lambda r: r.ratio)
    lines.append(
        f"# {best.ratio:.3f} of the defaults' time at {best.bytes} B, at worst {worst.ratio:.3f} at {worst.bytes} B"
    )
    lines += [export(name, value) for name, value in tuning.everywhere.environment().items()]
    return "\n".join(lines) + "\n"


def tuner_rules(tuning: NcclTuning) -> str | None:
    """The plugin's file; None where no rule would change anything or a band's own choice is not known."""
    if not tuning.has_rules:
        return None
    lines = ["# for all-reduces of these ranks alone: with this plugin everything else is sent on one channel"]
    for band in tuning.bands:
        setting = band.setting
        assert setting is not None
        end = LARGEST_BYTES if band.max_bytes is None else band.max_bytes
        fields = ["allreduce", band.min_bytes, end, setting.algorithm, setting.protocol, setting.channels]
        lines.append(",".join(map(str, [*fields, tuning.nodes, tuning.world_size, ANY, ANY])))
    return "\n".join(lines) + "\n"


def why_no_rules(tuning: NcclTuning) -> str:
    """For people, where `tuner_rules` is None."""
    unknown = [b.min_bytes for b in tuning.bands if b.setting is None]
    if unknown and any(not b.keep_default for b in tuning.bands):
        return (
            f"NCCL's own choice from {unknown[0]} bytes on is not known, and a message without a rule would be sent on"
            " one channel; measure again with a log that NCCL_DEBUG_SUBSYS=TUNING writes"
        )
    return "keep the defaults: no setting was better at any size"


def _group(tuning: NcclTuning) -> str:
    nodes = f"{tuning.nodes} node{'' if tuning.nodes == 1 else 's'}"
    return f"{tuning.world_size} ranks on {nodes}, NCCL {tuning.nccl or 'of unknown version'}, {tuning.transport}"

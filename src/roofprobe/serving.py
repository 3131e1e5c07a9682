"""Over how many units to split a model, by what a profile measured: the choice, and what was left out of it and why.

A number of ranks is a candidate where the model divides and fits and where the profile has NCCL's all-reduce of so many
ranks, which is what serving engines use; the one with the highest expected rate at batch 1 is chosen. All estimates
share the machine and the assumptions, so that the middles of their intervals compare though the intervals overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
import re

import msgspec

from roofprobe.all_reduce_time import message_seconds, preferred
from roofprobe.errors import BadInput
from roofprobe.model_bytes import all_reduce_bytes, cache_bytes, weight_bytes
from roofprobe.nccl_tuning import NcclTuning
from roofprobe.profile import TuningProfile
from roofprobe.profile_figures import CollectiveResult
from roofprobe.profile_machine import profile_machine
from roofprobe.scaling import MOST_UNITS, Prediction, break_even_seconds, divides, fits_so, predict, require_divisible
from roofprobe.step_terms import Workload

MEASURE_ALL_REDUCE = "`roofprobe launch --hosts A,B,... -- allreduce --latency`"


@dataclass(frozen=True)
class Choice:
    """Tensor parallelism over `ranks` GPUs on `nodes` machines."""

    ranks: int
    nodes: int
    rate: str
    """That is expected, for people."""
    reason: str
    """Why this many, with the all-reduce that it costs."""
    all_reduce: CollectiveResult | None
    """None for one rank."""
    cost: str
    """What a decode step's all-reduce takes, for people."""
    assumed: tuple[str, ...]
    """A sentence for each figure that the estimate rests on."""


def choose(profile: TuningProfile, work: Workload) -> tuple[Choice | None, tuple[str, ...]]:
    """(the choice, why each other number of ranks is none); None where nothing can be recommended."""
    if "read" not in profile.ceilings.get("device", {}) or not profile.environment.devices:
        return None, ("no read of a GPU's memory in the profile: measure it with `roofprobe run` on the GPU",)
    # Whatever else was measured, engines send through NCCL.
    profile = msgspec.structs.replace(profile, collectives=tuple(c for c in profile.collectives if c.backend == "nccl"))
    estimates: dict[int, tuple[Prediction, tuple[str, ...]]] = {}
    left_out = []
    for ranks in range(1, MOST_UNITS + 1):
        why = _why_not(profile, work, ranks)
        if why is not None:
            left_out.append(f"over {ranks}: {why}")
            continue
        assumed = profile_machine(profile, work, ranks, ranks)
        estimates[ranks] = predict(work, assumed.machine, "tp", ranks), assumed.notes
    if not estimates:
        return None, tuple(left_out)
    best = max(estimates, key=lambda ranks: estimates[ranks][0].expected_tokens_per_s.mid)
    left_out += [f"over {ranks}: {_rate(found)}" for ranks, (found, _) in estimates.items() if ranks != best]
    found = preferred(profile.collectives, best) if best > 1 else None
    nodes = 1 if found is None else nodes_of(found.transport, best)
    prediction, notes = estimates[best]
    others = "the only one" if len(estimates) == 1 else f"the most of {len(estimates)}"
    reason = f"{_rate(prediction)}, {others} that the profile's measurements can tell"
    cost = "no all-reduce"
    if found is not None:
        message = all_reduce_bytes(work.model, work.batch)
        cost = f"an all-reduce of {message} B takes {1e6 * message_seconds(found, message):.1f} us"
        reason += f"; {cost}"
    if found is not None and best == 2:
        even = break_even_seconds(work, *(profile_machine(profile, work, n, n).machine for n in (1, 2)))
        reason += "" if even is None else f", and up to {1e6 * even:.0f} us a second unit gains"
    return Choice(best, nodes, _rate(prediction), reason, found, cost, notes), tuple(sorted(left_out))


def nodes_of(transport: str, ranks: int) -> int:
    """Machines that a transport's text speaks of: ``NCCL, NET/IB, 2 ranks on 2 hosts``; as many as ranks if none."""
    if "this host" in transport:
        return 1
    told = re.search(r"on (\d{1,4}) hosts", transport)
    return int(told[1]) if told else ranks


def matching_nccl(profile: TuningProfile, choice: Choice) -> NcclTuning | None:
    """What was tuned for the chosen ranks and their transport, or for the ranks alone where it is the only one."""
    found = [t for t in profile.nccl if t.world_size == choice.ranks]
    same = [t for t in found if choice.all_reduce is not None and t.transport == choice.all_reduce.transport]
    return same[0] if same else found[0] if len(found) == 1 else None


def _why_not(profile: TuningProfile, work: Workload, ranks: int) -> str | None:
    if not divides(work.model, ranks):
        try:
            require_divisible(work.model, ranks)
        except BadInput as error:
            return str(error)
    memory_bytes = profile.environment.devices[0].memory_bytes
    if not fits_so(work, "tp", ranks, memory_bytes):
        needed = weight_bytes(work.model, work.format) + work.batch * cache_bytes(work.model, work.context)
        return f"{needed / 1e9:.1f} GB of weights and cache do not fit {ranks} x {memory_bytes / 1e9:.1f} GB"
    if ranks > 1 and preferred(profile.collectives, ranks) is None:
        return f"no NCCL all-reduce of {ranks} ranks in the profile: measure it with {MEASURE_ALL_REDUCE}"
    return None


def _rate(prediction: Prediction) -> str:
    low, mid, high = (getattr(prediction.expected_tokens_per_s, end) for end in ("low", "mid", "high"))
    return f"{mid:.1f} tokens/s expected at batch 1 ({low:.1f} to {high:.1f})"

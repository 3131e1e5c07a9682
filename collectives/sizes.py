"""The message sizes of a sweep, and whether their buffers fit."""

from __future__ import annotations

from collections.abc import Sequence

from roofprobe.arguments import size_text
from roofprobe.collectives.collective import PART_BYTES, Collective, Counts
from roofprobe.collectives.dtypes import Dtype
from roofprobe.collectives.rank_info import MEMORY_SHARE
from roofprobe.collectives.results import RankInfo, SweepPlan
from roofprobe.errors import BadInput


def sweep_elements(plan: SweepPlan, dtype: Dtype) -> list[int]:
    """Elements of a message from `min_bytes` to `max_bytes`, each once: times the factor if above 1, else plus step.

    A size that is no whole number of elements is rounded down, as nccl-tests does; unlike there, sizes that hold no
    element are left out. Raises BadInput for an empty or endless sweep.
    """
    if plan.min_bytes > plan.max_bytes:
        raise BadInput(f"-b {plan.min_bytes} is above -e {plan.max_bytes}; expected minbytes <= maxbytes")
    if plan.step_factor <= 1 and plan.step_bytes < 1:
        raise BadInput("the sizes never grow: give -f above 1 or -i of at least 1")
    counts: list[int] = []
    size = plan.min_bytes
    while size <= plan.max_bytes:
        count = size // dtype.bytes
        if count and (not counts or count > counts[-1]):
            counts.append(count)
        size = max(size * plan.step_factor, 1) if plan.step_factor > 1 else size + plan.step_bytes
    if not counts:
        raise BadInput(f"no size up to -e {plan.max_bytes} holds one {dtype.name} of {dtype.bytes} bytes; raise -e")
    return counts


def sweep_counts(plan: SweepPlan, dtype: Dtype, collective: Collective, world_size: int) -> list[Counts]:
    """What each rank sends and receives at every size of the plan, each once.

    A message that is split becomes n parts of whole multiples of 16 bytes, as in nccl-tests: its size is rounded down
    to that, and a size below 16 n bytes, which would be empty, is left out. Raises BadInput where none is left.
    """
    sizes: list[Counts] = []
    for elements in sweep_elements(plan, dtype):
        counts = collective.counts(elements, world_size, dtype.bytes)
        if counts.count and counts not in sizes[-1:]:
            sizes.append(counts)
    if not sizes:
        least = world_size * PART_BYTES
        raise BadInput(
            f"{collective.name} needs at least {least} bytes, {PART_BYTES} for each of {world_size} ranks;"
            f" -e is {plan.max_bytes}: raise it"
        )
    return sizes


def require_memory(buffer_bytes: int, ranks: Sequence[RankInfo], force: bool = False) -> None:
    """Raises BadInput, with the size that is needed, where the ranks' buffers exceed what they may use.

    That is a quarter of what is available to the ranks that share it, on the host with the least; with `force` all of
    it, but no more: a GB10 that has run out of memory needs a power cycle (open-gpu-kernel-modules issue 1358).
    `buffer_bytes` is what one rank allocates. Every rank comes to the same answer from the same `ranks`.
    """
    for sharing in {rank.shares_memory_with for rank in ranks}:
        together = [rank for rank in ranks if rank.shares_memory_with == sharing]
        budget = min(rank.memory_budget_bytes for rank in together) * (MEMORY_SHARE if force else 1)
        needed = buffer_bytes * len(together)
        if needed > budget:
            limit = "all" if force else "a quarter"
            advice = "" if force else ", or give --force"
            raise BadInput(
                f"the buffers need {size_text(needed)} on {together[0].host} ({len(together)} ranks, send and receive);"
                f" {limit} of the available memory is {size_text(budget)}; lower -e or free memory{advice}"
            )

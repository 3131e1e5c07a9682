"""One rank's part in taking the latency of small all-reduces, under the load that the kernels' side brings."""

from __future__ import annotations

from roofprobe.collectives.exact import Pattern
from roofprobe.collectives.latency_plan import LatencyPlan
from roofprobe.collectives.latency_sweep import LatencySweep
from roofprobe.collectives.process_group import Group
from roofprobe.probes.collective_output import Speaker
from roofprobe.probes.latency_load import gemv_load


def measure_latency(plan: LatencyPlan, pattern: Pattern, group: Group, speaker: Speaker | None) -> int:
    """Returns how many elements were wrong, over all ranks; `speaker` is rank 0's. A single rank has no latency."""
    if group.world_size == 1:
        if speaker:
            speaker.end_latency(["a single rank sends nothing over a link"])
        return 0
    group.watch.enter("latency, preparing the load", alone=True)
    sweep = LatencySweep(plan, pattern, group, gemv_load(group, cache_bytes(group)))
    if speaker:
        speaker.begin_latency()
    wrong = 0
    for point in sweep.points():
        wrong += point.wrong or 0
        group.watch.enter("writing the results", alone=True)
        if speaker:
            speaker.latency(point)
    if speaker:
        speaker.end_latency(sweep.findings())
    return wrong


def cache_bytes(group: Group) -> int:
    """Of the cache that the load has to outgrow: the GPU's L2, or the CPU's last level."""
    if group.device.type == "cuda":
        import torch

        return int(torch.cuda.get_device_properties(group.device).L2_cache_size)
    from roofprobe.environment import last_level_cache_bytes

    return last_level_cache_bytes()

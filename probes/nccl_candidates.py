"""Which NCCL settings are worth a run: a few dozen, each of which NCCL may take or refuse.

ring and tree   the algorithms that an all-reduce between hosts has without help from switches or NVLink
ll, simple      the protocols: a flag beside every 4 bytes for short messages, plain buffers for long ones; LL128 only
                where NCCL takes it by itself, since forced on a path that tears its 128 bytes apart it corrupts data
channels 1 to 8 how many blocks share a message; GB10 has 48 multiprocessors, and every block is one that decode loses
merging         with several RDMA devices, whether the two halves of a port count as one NIC
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from roofprobe.nccl_tuning import Algorithm, NcclSetting, Protocol

ALGORITHMS: tuple[Algorithm, ...] = ("ring", "tree")
PROTOCOLS: tuple[Protocol, ...] = ("ll", "simple")
CHANNELS = (1, 2, 4, 8)


def candidates(rdma_devices: int, own_choices: Iterable[NcclSetting]) -> list[NcclSetting]:
    """Every algorithm, protocol and number of channels; alone and merged, the choices that several NICs add.

    own_choices: what NCCL was seen to choose by itself.
    """
    protocols = (*PROTOCOLS, "ll128") if any(own.protocol == "ll128" for own in own_choices) else PROTOCOLS
    found = [
        NcclSetting(algorithm=algorithm, protocol=protocol, channels=channels)
        for algorithm, protocol, channels in product(ALGORITHMS, protocols, CHANNELS)
    ]
    if rdma_devices > 1:
        found += [
            NcclSetting(channels=channels, merge_nics=merged)
            for merged, channels in product((True, False), (None, *CHANNELS))
        ]
    return found

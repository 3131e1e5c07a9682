"""What NCCL chose by itself for each all-reduce, from the log that NCCL_DEBUG_SUBSYS=TUNING writes.

    AllReduce: 65536 Bytes -> Algo RING proto LL channel{Lo..Hi}={0..3}

Versions before 2.24 or so write algorithm and protocol as numbers. Lines without channels tell too little and are
passed over. Source: nccl, src/enqueue.cc.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path
import re

from roofprobe.nccl_tuning import Algorithm, NcclSetting, Protocol

_CHOICE = re.compile(
    rb"AllReduce: (\d{1,19}) Bytes -> Algo (\w{1,16}) proto (\w{1,16}) channel\{Lo\.\.Hi\}=\{(\d{1,4})\.\.(\d{1,4})\}"
)
_ALGORITHMS: dict[str, Algorithm] = {"0": "tree", "1": "ring", "tree": "tree", "ring": "ring"}
_PROTOCOLS: dict[str, Protocol] = {
    "0": "ll", "1": "ll128", "2": "simple", "ll": "ll", "ll128": "ll128", "simple": "simple",
}  # fmt: skip


def read_choices(logs: Sequence[Path], sizes: Container[int]) -> dict[int, NcclSetting]:
    """Message bytes -> setting, for the all-reduces of `sizes`; the last line of a size stands.

    A choice that no candidate can express (collnet, nvls) is left out. A log that can't be read counts as empty.
    """
    found = {}
    for log in logs:
        try:
            lines = log.open("rb")
        except OSError:
            continue
        with lines:
            for line in lines:
                match = _CHOICE.search(line)
                if match is None or int(match[1]) not in sizes:
                    continue
                algorithm = _ALGORITHMS.get(match[2].decode("ascii", "replace").lower())
                protocol = _PROTOCOLS.get(match[3].decode("ascii", "replace").lower())
                channels = int(match[5]) - int(match[4]) + 1
                if algorithm and protocol and channels > 0:
                    found[int(match[1])] = NcclSetting(algorithm=algorithm, protocol=protocol, channels=channels)
    return found

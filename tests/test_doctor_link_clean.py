"""Links with nothing wrong: no rule says anything, not even a warning; and no junk in a recording makes one raise."""

from __future__ import annotations

from typing import Any

from gb10_hosts import CLEAN, found, host
from gb10_tree import cabled, unit_entries
from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from roofprobe.doctor.host import Host


@pytest.mark.parametrize("hosts", CLEAN.values(), ids=list(CLEAN))
def test_nothing_is_found(hosts: tuple[Host, ...]) -> None:
    assert found(*hosts) == ()


FULL = unit_entries(1, cabled(0, 1), settings={"NCCL_IB_HCA": "rocep1s0f0", "NCCL_SOCKET_IFNAME": "enP7s7"})
JUNK = st.one_of(
    st.none(),
    st.builds(lambda text: {"data": text}, st.text(max_size=40)),
    st.sampled_from([{"data": word} for word in (
        "", "0", "-1", "1: DOWN", "4: ACTIVE", "9" * 20, "40 Gb/sec", "::ffff:1.2.3.4", "2.5 GT/s PCIe", "^", "=,:,",
        "NCCL_IB_HCA=^\nNCCL_SOCKET_IFNAME=^=\nNCCL_IB_GID_INDEX=999", "NCCL_IB_HCA=roce:x,:1\nNCCL_SOCKET_IFNAME=en:",
    )]),
    st.sampled_from([{"errno": 5}, {"dir": 1}, {"link": "../../.."}, {"link": "/"}]),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from(sorted(FULL)), JUNK, max_size=25), min_size=1, max_size=3),
    st.booleans(),
    st.sampled_from(["NVIDIA GB10", None]),
)
def test_junk_in_recordings_never_raises(changes: list[dict[str, Any]], earlier: bool, gpu: str | None) -> None:
    trees = [{k: v for k, v in (FULL | change).items() if v is not None} for change in changes]
    hosts = [host(f"spark{n}", entries, before=FULL if earlier else None, gpu=gpu) for n, entries in enumerate(trees)]
    for each in found(*hosts):
        assert each.host and each.evidence and each.remedy

"""Counters around a sweep: a real Soft-RoCE device before and after traffic, and this machine's TCP."""

from __future__ import annotations

import json
from pathlib import Path

from roofprobe.collectives.sweep_counters import TCP_AGAIN, difference, error_lines, look
from roofprobe.recording import Entry, RecordedTree, open_tree
from roofprobe.tree import this_machine

SOFT_ROCE = Path(__file__).resolve().parent / "recordings" / "softroce.json"


def test_what_a_real_device_had_to_send_again_is_told() -> None:
    recording = json.loads(SOFT_ROCE.read_text())
    later = {path: {"data": text} for path, text in recording["after_traffic"].items()}
    after = RecordedTree({path: Entry(**entry) for path, entry in {**recording["tree"], **later}.items()})
    found = difference("node1", look(open_tree(SOFT_ROCE)), look(after))
    assert found.errors == {"rxe0/1 completer_retry_err": 19}
    assert error_lines([found]) == ["link errors meanwhile on node1: rxe0/1 completer_retry_err 19"]
    assert difference("node1", look(after), look(open_tree(SOFT_ROCE))).errors == {}  # fell: it was reset


def test_tcp_is_read_from_the_namespaces_own_table() -> None:
    snmp = "Ip: Forwarding\nIp: 1\nTcp: RtoMin OutSegs RetransSegs InErrs\nTcp: 200 {} {} 0\n"
    counts = ((1000, 7), (2000, 12), (102_000, 17))
    looks = [look(RecordedTree({"/proc/net/snmp": Entry(data=snmp.format(*each))})) for each in counts]
    lossy, usual = difference("a", looks[0], looks[1]), difference("a", looks[1], looks[2])
    assert lossy.errors == usual.errors == {TCP_AGAIN: 5}
    assert error_lines([lossy, usual]) == ["link errors meanwhile on a: TCP segments sent again 5"]
    for damaged in ("", "Tcp: RetransSegs\n", "Tcp: RetransSegs\nTcp: x\n", "Tcp: RetransSegs\nTcp: 1 2\n"):
        assert look(RecordedTree({"/proc/net/snmp": Entry(data=damaged)})).errors == {}
    assert look(this_machine()).errors[TCP_AGAIN] >= 0

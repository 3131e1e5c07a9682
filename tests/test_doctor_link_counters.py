"""Links that flap and packets that are sent again."""

from __future__ import annotations

import json

from gb10_hosts import SOFT_ROCE, faults, found, host, unit
from gb10_tree import RDMA, Half, cabled, changed, unit_entries
import pytest


def counted(**counters: int) -> tuple[Half, ...]:
    return changed(cabled(0), "rocep1s0f0", counters=counters)


@pytest.mark.parametrize(
    ("counters", "severity"),
    [
        ({"link_downed": 1}, "warning"),
        ({"link_downed": 100}, "warning"),
        ({"link_downed": 101}, "fault"),
        ({"link_error_recovery": 2}, "warning"),
        ({"out_of_sequence": 1}, "warning"),
        ({"local_ack_timeout_err": 1_000_000}, "warning"),
        ({"packet_seq_err": 1_000_001}, "fault"),
        ({"implied_nak_seq_err": 2_000_000, "link_downed": 3}, "fault"),
        ({"rnr_nak_retry_err": 5, "roce_adp_retrans": 6}, "warning"),
    ],
)
def test_totals(counters: dict[str, int], severity: str) -> None:
    (finding,) = found(unit(1, counted(**counters)))
    assert (finding.id, finding.severity, finding.host) == ("link.flapping", severity, "spark1")
    assert "totals, whose beginning is not known" in finding.evidence
    for name, value in counters.items():
        assert f"/{name} reads {value}" in finding.evidence
    assert ("Reseat the cable" if severity == "fault" else "give this recording as --before") in finding.remedy


@pytest.mark.parametrize("name", ["symbol_error", "duplicate_request", "np_cnp_sent", "rx_read_requests"])
def test_counters_that_do_not_speak_of_a_bad_link(name: str) -> None:
    assert found(unit(1, counted(**{name: 5_000_000}))) == ()


@pytest.mark.parametrize(
    ("name", "before", "after", "severity"),
    [
        ("link_downed", 7, 8, "fault"),
        ("link_downed", 500, 500, None),
        ("link_downed", 500, 3, None),  # reset
        ("out_of_sequence", 5, 104, "warning"),
        ("out_of_sequence", 5, 105, "fault"),
        ("out_of_sequence", 5_000_000, 5_000_000, None),
    ],
)
def test_an_earlier_recording_decides(name: str, before: int, after: int, severity: str | None) -> None:
    one = host("spark1", unit_entries(1, counted(**{name: after})), before=unit_entries(1, counted(**{name: before})))
    findings = found(one)
    assert [each.severity for each in findings] == ([severity] if severity else [])
    for each in findings:
        assert f"{RDMA}/rocep1s0f0/ports/1/" in each.evidence
        assert f"grew by {after - before}, from {before} to {after}" in each.evidence
        assert "totals" not in each.evidence


def test_a_counter_that_the_earlier_recording_lacks_says_nothing() -> None:
    assert found(host("spark1", unit_entries(1, counted(link_downed=9)), before=unit_entries(1, ()))) == ()


def test_soft_roce_names_its_counters_otherwise() -> None:
    """What its recording says of it after healthy traffic in a slow machine is no fault."""
    recording = json.loads(SOFT_ROCE.read_text())
    idle = recording["tree"]
    traffic = idle | {path: {"data": text} for path, text in recording["after_traffic"].items()}
    (finding,) = found(host("soft", traffic, before=idle, gpu=None))
    assert (finding.id, finding.severity) == ("link.flapping", "warning")
    assert "completer_retry_err grew by 19" in finding.evidence
    lossy = traffic | {f"{RDMA}/rxe0/ports/1/hw_counters/rcvd_seq_err": {"data": "200\n"}}
    assert faults(host("soft", lossy, before=idle, gpu=None)) == [("link.flapping", "soft")]

"""The proof of transport and the raw link between real nodes, at a rate that is known."""

from __future__ import annotations

from collections.abc import Iterator
import json
from pathlib import Path
from typing import Any

from netlab_nodes import Lab
import pytest
from real_nodes import GOODPUT, finish, lab, start_probe

pytestmark = pytest.mark.netns
SMALL = ("-b", "64K", "-e", "256K", "-n", "5", "-w", "1")


@pytest.fixture(scope="module")
def two() -> Iterator[Lab]:
    with lab(2, rate="1gbit") as nodes:
        yield nodes


def run(nodes: Lab, path: Path, *flags: str) -> tuple[str, dict[str, Any]]:
    done = finish(start_probe(nodes, [*SMALL, *flags, "-J", path], "by hand"), seconds=90)
    assert [rank.returncode for rank in done] == [0] * nodes.count, "\n".join(rank.stderr for rank in done)
    return done[0].stdout, json.loads(path.read_text())


def test_the_interface_that_carried_the_bytes_is_named_and_the_link_measured(two: Lab, tmp_path: Path) -> None:
    text, found = run(two, tmp_path / "out.json")
    above = text[: text.index("# Using devices")]
    assert "# transport: gloo over eth0, 2 ranks on 2 hosts\n" in above
    assert "# transport: node1 <-> node2: gloo over eth0 (interface counters 1.0" in above
    assert found["transport"] == "gloo over eth0, 2 ranks on 2 hosts"
    assert found["faults"] == []
    assert [pair["ranks"] for pair in found["transport_pairs"]] == [[0, 1]]
    for host in found["transport_traffic"]:
        # Headers, acknowledgements and a few messages of the probe's own come on top.
        assert 1.0 <= host["interfaces"]["eth0"] / host["expected_bytes"] <= 1.01

    for host in found["sweep_counters"]:
        timed = sum(2 * result["actual_iterations"] * result["size"] for result in found["results"])
        assert host["interfaces"]["eth0"] > timed  # and warm-ups, checks and what ranks tell each other

    (link,) = found["link_baseline"]
    assert link["hosts"] == ["node1", "node2"] and link["tool"] == "TCP" and link["over"] == ["eth0"]
    assert link["problem"] is None
    assert link["raw_gbit_per_s"] == pytest.approx(1.0 * GOODPUT, rel=0.05)  # within 0.5 % on idle cores
    assert 0 < link["half_round_trip_us"] < 5000
    assert "# link: all_reduce's busbw at the largest size, " in text[text.index("# Collective test concluded") :]


def test_the_link_is_not_measured_where_that_is_not_wanted(two: Lab, tmp_path: Path) -> None:
    text, found = run(two, tmp_path / "out.json", "--no-link-baseline")
    assert found["link_baseline"] == [] and "# link:" not in text
    assert found["transport"] == "gloo over eth0, 2 ranks on 2 hosts"


def test_one_slow_node_is_in_both_slow_links(tmp_path: Path) -> None:
    """At rates that two busy cores keep up with, four streams at once."""
    with lab(3, rate="200mbit") as nodes:
        nodes.shape(3, rate="40mbit")
        _, found = run(nodes, tmp_path / "out.json")
    rates = {tuple(link["hosts"]): link["raw_gbit_per_s"] for link in found["link_baseline"]}
    assert rates["node1", "node2"] == pytest.approx(0.2 * GOODPUT, rel=0.05)
    assert rates["node1", "node3"] == pytest.approx(0.04 * GOODPUT, rel=0.05)
    assert rates["node2", "node3"] == pytest.approx(0.04 * GOODPUT, rel=0.05)
    for host in found["transport_traffic"]:
        # tbf splits what is longer than its burst into frames with a header each, 1514/1448, and drops some.
        assert 1.0 <= host["interfaces"]["eth0"] / host["expected_bytes"] <= 1.15

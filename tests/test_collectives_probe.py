"""All collectives in one start: under torchrun's static rendezvous, with three ranks, in float8, and with one rank."""

from __future__ import annotations

import json
import os
from pathlib import Path
import re
import subprocess

from collective_ranks import QUICK, free_port, probe, torchrun
import nccl_tests_output as parser
import pytest
from test_collective_corruption import sections

from roofprobe.collectives.every import EVERY

pytest.importorskip("torch.distributed")

NAMES = [collective.name for collective in EVERY]
UNCHECKED_IN_PLACE = ("all_to_all", "sendrecv")
SPLIT = ("all_gather", "reduce_scatter", "all_to_all")


@pytest.fixture(scope="module")
def under_torchrun(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], Path]:
    """Each collective's section of the output, and the folder with its JSON."""
    folder = tmp_path_factory.mktemp("elsewhere")
    static = ("--nnodes", "1", "--node-rank", "0", "--master-addr", "127.0.0.1", "--master-port", str(free_port()))
    arguments = ["--collective", "all", "-b", "8", "-e", "64K", "-f", "4", *QUICK, "-r", "1", "-J", "out.json"]
    done = torchrun(static, "collectives", arguments, folder)
    assert done.returncode == 0, done.stderr
    assert list(sections(done.stdout)) == NAMES
    return sections(done.stdout), folder


@pytest.mark.parametrize("name", NAMES)
def test_a_parser_for_nccl_tests_reads_every_table(name: str, under_torchrun: tuple[dict[str, str], Path]) -> None:
    text = under_torchrun[0][name]
    sizes = [8 << 2 * i for i in range(7) if name not in SPLIT or 8 << 2 * i >= 32]
    for in_place in (False, True):
        assert list(parser.by_negative_column(text, "busbw", in_place)) == sizes
        if not (in_place and name in UNCHECKED_IN_PLACE):
            assert set(parser.by_negative_column(text, "#wrong", in_place).values()) == {0.0}
    assert parser.out_of_bounds(text) == (0, "OK")
    assert parser.average_bus_gb_per_s(text) > 0
    assert [m["rank"] for m in parser.RANK.finditer(text)] == ["0", "1"]
    assert text.count("     N/A") == (len(sizes) if name in UNCHECKED_IN_PLACE else 0)
    rows = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    reduction = "none" if name in ("all_gather", "broadcast", "all_to_all") else "sum"
    root = "1" if name in ("broadcast", "reduce") else "-1"
    assert {tuple(row[2:5]) for row in rows} == {("float", reduction, root)}
    assert {int(row[0]) // int(row[1]) for row in rows} == {8 if name in SPLIT else 4}  # bytes over the count column


@pytest.mark.parametrize("name", NAMES)
def test_each_collective_has_an_nccl_tests_document(name: str, under_torchrun: tuple[dict[str, str], Path]) -> None:
    sections_, folder = under_torchrun
    assert len(os.listdir(folder)) == len(NAMES)
    found = json.loads((folder / f"out.{name}.json").read_text())
    assert {"version", "start_time", "args", "env", "nccl_version", "config", "results", "out_of_bounds",
            "average_bus_bandwidth", "end_time", "fit", "transport"} <= set(found)  # fmt: skip
    assert found["version"] == 3 and found["end_time"] is not None
    times = parser.by_negative_column(sections_[name], "time")
    assert [r["size"] for r in found["results"]] == list(times)
    for result in found["results"]:
        assert list(result)[:7] == ["size", "count", "type", "redop", "root", "out_of_place", "in_place"]
        assert re.fullmatch(r" *-?\d+", result["root"]) and len(result["root"]) == 6
        assert times[result["size"]] == pytest.approx(result["out_of_place"]["time"], rel=0.01)
        assert result["out_of_place"]["nwrong"] == 0
        assert result["in_place"]["nwrong"] == (None if name in UNCHECKED_IN_PLACE else 0)
        factor = 1.0 if name in ("all_reduce", "broadcast", "reduce", "sendrecv") else 0.5
        assert result["in_place"]["bus_bw"] == pytest.approx(factor * result["in_place"]["alg_bw"])


def test_three_ranks_and_a_list_of_documents_on_stdout(tmp_path: Path) -> None:
    done = probe(
        "--collective", "all", "--ranks", "3", "-b", "64", "-e", "8K", "-f", "8", *QUICK, "-d", "bfloat16", "-o", "max",
        "-r", "2", "--json", name="collectives", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    documents = json.loads(done.stdout)
    assert len(documents) == len(NAMES)
    for name, document in zip(NAMES, documents):
        assert len(document["config"]["devices"]) == 3
        assert document["out_of_bounds"] == {"count": 0, "okay": "true"}
        assert document["results"], name
        assert {r["type"] for r in document["results"]} == {"bfloat16"}
        assert {r["redop"] for r in document["results"]} <= {"max", "none"}
    assert list(sections(done.stderr)) == NAMES
    assert "FutureWarning" not in done.stderr


def test_float8_is_moved_and_checked_as_the_bytes_that_it_is() -> None:
    movers = ["all_gather", "broadcast", "all_to_all", "sendrecv"]
    done = probe(
        "--collective", ",".join(movers), "--ranks", "2", "-b", "4K", "-e", "4K", *QUICK, "-d", "fp8_e4m3",
        name="collectives",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name, text in sections(done.stdout).items():
        assert "# f8e4m3: moved as uint8, because gloo takes no float8" in text, name
        assert parser.by_negative_column(text, "#wrong") == {4096: 0}
        assert " f8e4m3 " in text


def test_one_rank_measures_copies_and_fits_nothing() -> None:
    done: subprocess.CompletedProcess[str] = probe(
        "--collective", "all", "--ranks", "1", "-b", "64", "-e", "4K", *QUICK, "-d", "int32", name="collectives"
    )
    assert done.returncode == 0, done.stderr
    for name, text in sections(done.stdout).items():
        assert parser.out_of_bounds(text) == (0, "OK"), name
        assert "a single rank sends nothing over a link: no fit" in text

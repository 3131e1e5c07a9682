"""``probes/doctor.py`` across ranks: every host is judged beside every other, and no rank waits for ever."""

from __future__ import annotations

import json
from pathlib import Path
import socket
import subprocess
import sys
from time import monotonic

from collective_ranks import Ended, environment, free_port, ranks_by_hand, torchrun
from doctor_cases.clusters import pair, spoil_port, switch, trees, unit
from doctor_cases.recorded import store_json
import pytest

NOTHING = "import sys"


def recordings(folder: Path, *hosts: object) -> str:
    """Writes root-0.json, root-1.json … for the ranks; the pattern that names them."""
    for rank, tree in enumerate(trees(*hosts).values()):  # type: ignore[arg-type]
        store_json(tree, folder / f"root-{rank}.json")
    return str(folder / "root-{rank}.json")


def ranks(folder: Path, *arguments: str, count: int = 2) -> list[Ended]:
    return ranks_by_hand(NOTHING, folder, *arguments, name="doctor", ranks=count)


def test_under_torchrun_the_odd_one_out_is_named(tmp_path: Path) -> None:
    first, second, third = switch(3)
    roots = recordings(tmp_path, first, spoil_port(second, 0, mtu=1500), third)
    ended = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "3", "--rdzv-backend", "c10d",
         "--rdzv-endpoint", "127.0.0.1:0", Path(__file__).parent.parent / "probes" / "doctor.py",
         "--root", roots, "--json"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    told = json.loads(ended.stdout)
    assert list(told["facts"]) == ["0", "1", "2"]
    assert {(f["id"], f["host"]) for f in told["faults"] if f["severity"] == "fault"} == {("link.mtu-mismatch", "1")}
    assert ended.returncode == 1


def test_a_healthy_pair_is_well_on_every_rank(tmp_path: Path) -> None:
    (first, out, errors), (second, *silent) = ranks(tmp_path, "--root", recordings(tmp_path, *pair()))
    assert (first, second) == (0, 0), errors
    assert out.splitlines()[-1] == "no fault found on 0, 1"
    assert silent == ["", ""], "rank 0 alone speaks"


def test_a_fault_is_every_ranks_status(tmp_path: Path) -> None:
    first, second = pair()
    ended = ranks(tmp_path, "--root", recordings(tmp_path, first, spoil_port(second, 0, mtu=1500)))
    assert [status for status, _, _ in ended] == [1, 1]


def test_ranks_of_one_host_record_it_once(tmp_path: Path) -> None:
    ended = torchrun(("--standalone",), "doctor", ("--json",), tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert list(json.loads(ended.stdout)["facts"]) == [socket.gethostname()]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--root", "root-0.json"), "{rank}"),
        (("--root", "missing-{rank}.json"), "can't read missing-0.json"),
    ],
    ids=["one recording for all", "no recording"],
)
def test_unusable_input_is_told_once(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    recordings(tmp_path, unit())
    ended = ranks(tmp_path, *arguments)
    assert [status for status, _, _ in ended] == [2, 2]
    assert said in ended[0][2] and ended[0][2].count("\n") == 1, ended[0][2]
    assert ended[1][1:] == ("", "")


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_never_comes_is_named_in_time(rank: int, tmp_path: Path) -> None:
    program = "from roofprobe.probes.doctor import main; raise SystemExit(main())"
    place = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    began = monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", program, "--timeout", "2s"],
        cwd=tmp_path, env=environment(**place, MASTER_PORT=str(free_port())),
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (1, "")
    said = "no word from rank 1 of 2 within 2 s" if rank == 0 else "can't reach rank 0"
    assert said in ended.stderr and ended.stderr.count("\n") == 1, ended.stderr
    assert monotonic() - began < 60

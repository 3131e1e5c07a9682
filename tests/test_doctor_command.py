"""``roofprobe doctor`` as a person meets it: which files it judges, whose names it shows, and how it ends."""

from __future__ import annotations

import json
import os
from pathlib import Path
import socket
import subprocess
import sys

from doctor_cases.clusters import logs, pair, trees, unit
from doctor_cases.nccl_text import cluster
from doctor_cases.recorded import Tree, put, store_folder, store_json
from doctor_cases.sampling import healthy
from doctor_cases.tables import document, ramp
import pytest

from roofprobe.doctor.command import status_of
from roofprobe.doctor.inputs import host_names
from roofprobe.doctor.software import SM_121_SINCE, knows_sm_121, platform_of, read_told
from roofprobe.errors import FAILED, NOT_MEASURED, OK, BadInput
from roofprobe.finding import Finding
from roofprobe.recording import open_tree

SPARK = trees(unit())["spark-a"]
LINES = next(iter(logs(cluster(2)).values()))


def doctor(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, without the caller's NCCL settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NCCL_")}
    return subprocess.run(
        [sys.executable, "-m", "roofprobe", "doctor", *words],
        env={**kept, **environment}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def broken(tree: Tree) -> Tree:
    """The second half of the cabled port without a link."""
    port = "/sys/class/infiniband/roceP2p1s0f0/ports/1"
    changed = {path: dict(entry) for path, entry in tree.items()}
    put(changed, f"{port}/state", "1: DOWN")
    put(changed, f"{port}/phys_state", "3: Disabled")
    return changed


def test_this_machine_is_facts_and_no_fault() -> None:
    shown = doctor("--json", NCCL_IB_HCA="rocep1s0f0", NCCL_SECRET="hush", HF_TOKEN="hush")
    assert shown.returncode == OK, shown.stderr
    told = json.loads(shown.stdout)
    assert list(told) == ["faults", "facts"]
    facts = told["facts"][socket.gethostname()]
    assert facts["memory"]["total_bytes"] >= facts["memory"]["available_bytes"] > 0
    assert facts["nccl_environment"] == {"NCCL_IB_HCA": "rocep1s0f0"}
    assert "hush" not in shown.stdout + shown.stderr


def test_it_needs_neither_torch_nor_a_gpu() -> None:
    program = (
        "import sys; from roofprobe.cli import main; main(['doctor', '--json']);"
        "sys.exit(str({'torch', 'triton', 'numba', 'scipy', 'matplotlib'} & set(sys.modules) or ''))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert ended.stderr.splitlines()[-1:] != [] and "{'" not in ended.stderr


def test_people_see_every_fact_of_a_healthy_unit(tmp_path: Path) -> None:
    shown = doctor("--root", store_folder(SPARK, tmp_path / "root-spark-a"))
    assert (shown.returncode, shown.stderr) == (OK, "")
    for fact in (
        "NVIDIA GB10", "580.95.05", "CUDA 13.0", "torch 2.13.0", "Triton 3.9.0", "knows GB10's sm_121", "NCCL 2.28.9",
        "121.63 GiB", "page cache", "x4", "rocep1s0f0", "other half roceP2p1s0f0", "firmware 28.45.4028", "200 Gb/s",
        "3 RoCE v2 over 192.168.100.10", "MTU 9000", "192.168.101.10/24", "memlock unlimited",
        "/dev/infiniband: unknown",
        "no fault found on spark-a",
    ):  # fmt: skip
        assert fact in " ".join(shown.stdout.split()), fact


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("0x1021", "0000:01:00.0 ConnectX-7, 32.0 GT/s PCIe x4"),
        (None, "no function on the PCI bus"),
        ("", "not recorded"),
    ],
    ids=["a cable", "none: the functions left the bus", "a recording without the bus"],
)
def test_connectx_functions_are_those_on_the_bus(device: str | None, said: str, tmp_path: Path) -> None:
    tree: Tree = {}
    put(tree, "/proc/meminfo", "MemTotal:       127535128 kB")
    if device != "":
        put(tree, "/sys/bus/pci/devices/000f:01:00.0/vendor", "0x10de")
    if device:
        names = ("vendor", "device", "current_link_speed", "current_link_width")
        for name, text in zip(names, ("0x15b3", device, "32.0 GT/s PCIe", "4")):
            put(tree, f"/sys/bus/pci/devices/0000:01:00.0/{name}", text)
    shown = doctor("--root", store_json(tree, tmp_path / "root-a.json"))
    assert shown.returncode == OK and said in shown.stdout


def test_a_fault_is_shown_with_its_remedy_and_json_says_the_same(tmp_path: Path) -> None:
    root = store_json(broken(SPARK), tmp_path / "root-spark-a.json")
    shown, told = doctor("--root", root), doctor("--root", root, "--json")
    assert (shown.returncode, told.returncode) == (FAILED, FAILED)
    assert "FAULT link.port-down on spark-a" in shown.stdout and "remedy: " in shown.stdout
    assert shown.stdout.splitlines()[-1] == "1 fault: link.port-down on spark-a"
    (fault,) = json.loads(told.stdout)["faults"]
    assert set(fault) == {"id", "severity", "host", "evidence", "remedy"}
    assert (fault["id"], fault["severity"], fault["host"]) == ("link.port-down", "fault", "spark-a")


def test_given_files_are_judged_and_this_machine_is_not(tmp_path: Path) -> None:
    (tmp_path / "nccl.log").write_text(LINES)
    told = json.loads(doctor("--nccl-log", tmp_path / "nccl.log", "--json").stdout)
    assert list(told["facts"]) == ["spark-a"]
    (log,) = told["facts"]["spark-a"]["nccl_logs"]
    assert log["network"] == "IB" and log["devices"] == ["rocep1s0f0", "roceP2p1s0f0"]
    (tmp_path / "telemetry-x.jsonl").write_text(healthy(20))
    (tmp_path / "measured.json").write_text(document(ramp(23.5)))
    for flag, name in (("--telemetry", "telemetry-x.jsonl"), ("--measured", "measured.json")):
        shown = doctor(flag, tmp_path / name, "--platform", "dgx-spark", "--json")
        assert (shown.returncode, json.loads(shown.stdout)) == (OK, {"faults": [], "facts": {}}), shown.stderr


@pytest.mark.parametrize("joined", [True, False], ids=["--root A B", "--root A --root B"])
def test_hosts_are_compared_in_either_spelling(joined: bool, tmp_path: Path) -> None:
    roots = [str(store_json(tree, tmp_path / f"root-{name}.json")) for name, tree in trees(*pair()).items()]
    words = ["--root", *roots] if joined else [word for root in roots for word in ("--root", root)]
    shown = doctor(*words, "--json")
    assert shown.returncode == OK
    assert list(json.loads(shown.stdout)["facts"]) == ["spark-a", "spark-b"]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/root-spark1.json", "b/telemetry-spark2.jsonl", "spark3"], ["spark1", "spark2", "spark3"]),
        (["a/root-x.json", "b/root-x.json", "y"], ["a/x", "b/x", "y"]),
        (["c/a/x", "d/a/x"], ["c/a/x", "d/a/x"]),
        (["/r/x.json", "/r/x.json"], ["r/x", "r/x (2)"]),
        (["root-"], ["root-"]),
    ],
    ids=["plain", "one name in two folders", "as much as is needed", "the same twice", "nothing left"],
)
def test_a_host_is_named_after_its_recording(paths: list[str], names: list[str]) -> None:
    found = host_names([Path("/base") / path for path in paths])
    assert [name.removeprefix("base/") for name in found] == names
    assert len(set(found)) == len(paths)


@pytest.mark.parametrize(
    ("ids", "inconclusive", "status"),
    [
        ((), False, OK),
        ((("fault", "link.port-down"),), True, FAILED),
        ((("warning", "link.flapping"), ("info", "x")), False, OK),
        ((("warning", "reading.inconclusive"),), False, NOT_MEASURED),
        ((), True, NOT_MEASURED),
    ],
    ids=["nothing", "a fault is one though an input is empty", "warnings pass", "inconclusive", "an empty input"],
)
def test_status(ids: tuple[tuple[str, str], ...], inconclusive: bool, status: int) -> None:
    found = tuple(Finding(id=i, severity=s, host="a", evidence="", remedy="") for s, i in ids)  # type: ignore[arg-type]
    assert status_of(found, inconclusive) == status


@pytest.mark.parametrize(
    ("others", "status"), [((), NOT_MEASURED), (("--root",), NOT_MEASURED)], ids=["alone", "beside"]
)
def test_an_empty_log_is_not_healthy(others: tuple[str, ...], status: int, tmp_path: Path) -> None:
    """A job whose log was lost must not look like one that was looked at, whatever else is in order."""
    (tmp_path / "empty.log").write_text("nothing of NCCL\n")
    words = [*others, *([store_json(SPARK, tmp_path / "root-a.json")] if others else [])]
    shown = doctor(*words, "--nccl-log", tmp_path / "empty.log")
    assert shown.returncode == status
    assert "empty.log says nothing of NCCL" in " ".join(shown.stdout.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--root", "missing.json"], "missing.json: No such file"),
        (["--root", "bad.json"], "bad.json is no recording"),
        (["--root", "software.json"], "software.json: "),
        (["--root", "folder"], "folder/software.json: "),
        (["--root", "good.json", "--before", "good.json", "good.json"], "2 --before for 1 --root"),
        (["--telemetry", "bad.json"], "bad.json: line 1"),
        (["--measured", "bad.json"], "bad.json: "),
        (["--nccl-log", "missing.log"], "missing.log"),
        (["--platform", "dgx-sprak"], "no platform 'dgx-sprak'"),
        (["--platform", "missing.toml"], "missing.toml"),
        (["capture", "good.json"], "not overwritten"),
        (["--root=good.json", "capture", "new.json"], "records this machine"),
        (["--rot"], "--rot"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_unusable_input_is_one_line(words: list[str], said: str, tmp_path: Path) -> None:
    store_json(SPARK, tmp_path / "good.json")
    (tmp_path / "bad.json").write_text('["no recording"]\n')
    (tmp_path / "software.json").write_text('{"tree": {}, "software": {"cuda": [13.0]}}')
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "software.json").write_text("{")
    shown = subprocess.run(
        [sys.executable, "-m", "roofprobe", "doctor", *words],
        capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert (shown.returncode, shown.stdout) == (2, "")
    assert said in shown.stderr and shown.stderr.count("\n") == 1, shown.stderr


def test_a_name_with_control_characters_does_not_reach_the_terminal(tmp_path: Path) -> None:
    root = store_json(broken(SPARK), tmp_path / "root-\x1b[31mred.json")
    assert "\x1b" not in doctor("--root", root).stdout


def test_a_broken_pipe_ends_quietly() -> None:
    reader = subprocess.Popen(
        [sys.executable, "-m", "roofprobe", "doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert reader.stdout is not None and reader.stderr is not None
    reader.stdout.close()
    assert reader.wait(timeout=60) == OK
    assert reader.stderr.read() == ""
    reader.stderr.close()


@pytest.mark.parametrize(
    ("told", "platform"),
    [
        ({"software": {"platform": "dgx-spark"}}, "dgx-spark"),
        ({"software": {"platform": "NVIDIA DGX Spark", "gpu": "NVIDIA GB10", "later": 1}}, "dgx-spark"),
        ({"software": {"gpu": "NVIDIA GB10"}}, "gb10"),
        ({"tree": {"/software.json": {"data": '{"gpu": "NVIDIA GB10", "platform": null}'}}}, "gb10"),
        ({"software.json": {"platform": "dgx-spark"}}, "dgx-spark"),
        ({"tree": {"/sys/class/dmi/id/product_name": {"data": "NVIDIA_DGX_Spark\n"}}}, "dgx-spark"),
        ({"tree": {"/proc/driver/nvidia/gpus/000f:01:00.0/information": {"data": "Model: \t NVIDIA GB10\n"}}}, "gb10"),
        ({"software": {"gpu": "NVIDIA H200"}}, "h200-sxm"),
        ({}, None),
    ],
    ids=[
        "name",
        "title",
        "GPU",
        "in the tree",
        "under its file's name",
        "product",
        "driver's file",
        "another GPU",
        "nothing",
    ],
)
def test_a_recordings_platform(told: dict[str, object], platform: str | None, tmp_path: Path) -> None:
    path = tmp_path / "root-a.json"
    path.write_text(json.dumps({"tree": {}, **told}))
    tree = open_tree(path)
    found = platform_of(read_told(path, tree).software, tree)
    assert (found.name if found else None) == platform


def test_software_of_a_wrong_type_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "software.json").write_text('{"driver": [580]}')
    with pytest.raises(BadInput, match=r"software\.json: .*driver"):
        read_told(tmp_path, open_tree(tmp_path))


def test_ptxas_knows_the_chip_from_the_version_on_that_its_own_help_shows() -> None:
    """Held against the two that the installed Triton ships, where it does."""
    from importlib.util import find_spec

    spec = find_spec("triton")
    folder = Path(((spec and spec.submodule_search_locations) or [""])[0]) / "backends" / "nvidia" / "bin"
    for tool in folder.glob("ptxas*"):
        version = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout
        helped = subprocess.run([tool, "--help"], capture_output=True, text=True, check=True).stdout
        assert knows_sm_121(version.partition("release ")[2]) == ("sm_121a" in helped)
    major, minor = SM_121_SINCE
    assert [knows_sm_121(v) for v in (f"{major}.{minor}.86", f"{major}.{minor - 1}", "13.0", "junk")] == [
        True, False, True, None,
    ]  # fmt: skip

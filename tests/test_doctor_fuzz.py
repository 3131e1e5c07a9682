"""The doctor's readers take anything: no traceback, a status of their own, and never 0 for input that says nothing."""

from collections.abc import Iterator
import json
import os
from pathlib import Path
import random
import signal
from types import FrameType
from typing import Any

from doctor_cases.case import Outcome, run
from doctor_cases.clusters import logs, pair, trees, unit
from doctor_cases.nccl_text import cluster
from doctor_cases.recorded import Tree, store_folder
from doctor_cases.sampling import healthy
from doctor_cases.tables import document, ramp, table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import pytest

STATUSES = (0, 1, 2, 3)
FEW = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
HEALTHY: Tree = trees(unit())["spark-a"]
LOG = next(iter(logs(cluster(2)).values())) + table(ramp(23.7))
SAMPLING = healthy(20)
RESULTS = document(ramp(23.5))
FLAGS = {"--root": json.dumps({"tree": HEALTHY}), "--nccl-log": LOG, "--telemetry": SAMPLING, "--measured": RESULTS}

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


class Late(BaseException):
    """The doctor waits for something."""


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    """Reading a FIFO waits forever. Not a TimeoutError: that is an OSError, which readers turn into a message."""

    def late(_number: int, _frame: FrameType | None) -> None:
        raise Late

    old = signal.signal(signal.SIGALRM, late)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, old)


def survives(*words: object) -> Outcome:
    outcome = run([str(word) for word in words])
    assert outcome.status in STATUSES
    assert "Traceback" not in outcome.errors
    assert outcome.status == 2 or outcome.document is not None
    return outcome


def says_nothing(*words: object) -> None:
    assert survives(*words).status in (2, 3)


@pytest.mark.parametrize("flag", FLAGS)
@given(data=st.data())
@FEW
def test_a_truncated_file(flag: str, data: st.DataObject, tmp_path: Path) -> None:
    whole = FLAGS[flag].encode()
    file = tmp_path / "root-x.json"
    file.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    survives(flag, file)


@pytest.mark.parametrize("flag", FLAGS)
@given(data=st.data())
@FEW
def test_bytes_that_were_hit(flag: str, data: st.DataObject, tmp_path: Path) -> None:
    content = bytearray(FLAGS[flag].encode())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=30)):
        content[place] = data.draw(st.integers(0, 255))
    file = tmp_path / "root-x.json"
    file.write_bytes(content)
    survives(flag, file)


@pytest.mark.parametrize("flag", FLAGS)
@given(junk=st.binary(max_size=3000))
@FEW
def test_binary_junk(flag: str, junk: bytes, tmp_path: Path) -> None:
    file = tmp_path / "root-x.json"
    file.write_bytes(b"\x00\xff" + junk)
    says_nothing(flag, file)


@given(path=st.sampled_from(sorted(HEALTHY)), entry=anything)
@FEW
def test_an_entry_of_a_wrong_type(path: str, entry: Any, tmp_path: Path) -> None:
    file = tmp_path / "root-x.json"
    file.write_text(json.dumps({"tree": {**HEALTHY, path: entry}}))
    survives("--root", file)


@given(path=st.sampled_from([p for p in sorted(HEALTHY) if "data" in HEALTHY[p]]), text=st.text(max_size=200))
@FEW
def test_a_file_with_other_contents(path: str, text: str, tmp_path: Path) -> None:
    file = tmp_path / "root-x.json"
    file.write_text(json.dumps({"tree": {**HEALTHY, path: {"data": text}}}))
    survives("--root", file, "--before", file)


@given(content=anything)
@FEW
def test_json_of_any_shape(content: Any, tmp_path: Path) -> None:
    file = tmp_path / "root-x.json"
    for shape in (content, {"tree": content}, {"tree": {"/software.json": {"data": json.dumps(content)}}}):
        file.write_text(json.dumps(shape))
        survives("--root", file)
    file.write_text(json.dumps(content))
    survives("--measured", file)


LINE = {
    "t_s": 1.0,
    "utilization_pct": 96.0,
    "sm_clock_mhz": 2411.0,
    "power_w": 61.0,
    "p_state": "P0",
    "reasons": [],
    "sentinel": "gemv",
    "gb_per_s": 223.0,
}


@given(changes=st.lists(st.tuples(st.sampled_from(sorted(LINE)), anything), min_size=1, max_size=12))
@FEW
def test_samples_of_wrong_types(changes: list[tuple[str, Any]], tmp_path: Path) -> None:
    file = tmp_path / "telemetry-x.jsonl"
    file.write_text("".join(json.dumps({**LINE, name: value}) + "\n" for name, value in changes))
    survives("--telemetry", file)


@given(key=st.sampled_from(sorted(json.loads(RESULTS))), value=anything)
@FEW
def test_results_of_wrong_types(key: str, value: Any, tmp_path: Path) -> None:
    whole = json.loads(RESULTS)
    file = tmp_path / "measured.json"
    file.write_text(json.dumps({**whole, key: value}))
    survives("--measured", file)
    if isinstance(whole["results"][0], dict):
        file.write_text(
            json.dumps({**whole, "results": [{**whole["results"][0], "size": value, "out_of_place": value}]})
        )
        survives("--measured", file)


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize(
    "content", ["", "\n\n\n", " ", "{}", "[]", "null", '{"tree": {}}', "\ufeff", "hello\n"], ids=repr
)
def test_nothing_to_judge(flag: str, content: str, tmp_path: Path) -> None:
    file = tmp_path / "root-x.json"
    file.write_text(content)
    says_nothing(flag, file)


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize(
    "deep",
    ["[" * 100_000, '{"tree":' * 50_000, '{"t_s":1,"reasons":' + "[" * 50_000 + "]" * 50_000 + "}"],
    ids=["lists", "objects", "closed"],
)
def test_deep_json(flag: str, deep: str, tmp_path: Path) -> None:
    file = tmp_path / "root-x.json"
    file.write_text(deep)
    says_nothing(flag, file)


@pytest.mark.parametrize("flag", [*FLAGS, "--before"])
def test_a_path_that_is_no_file(flag: str, tmp_path: Path) -> None:
    given_root = ("--root", store_folder(HEALTHY, tmp_path / "root-x")) if flag == "--before" else ()
    assert survives(*given_root, flag, tmp_path / "missing").status == 2
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert survives(*given_root, flag, fifo).status in (2, 3)
    (tmp_path / "empty").mkdir()
    says_nothing(*given_root, flag, tmp_path / "empty") if flag != "--before" else survives(
        *given_root, flag, tmp_path / "empty"
    )
    (tmp_path / "loop").symlink_to("loop")
    assert survives(*given_root, flag, tmp_path / "loop").status == 2


def _folder(tmp_path: Path) -> Path:
    return store_folder(HEALTHY, tmp_path / "root-x")


PLACES = [
    "sys/class/infiniband",
    "sys/class/net",
    "sys/class/infiniband/rocep1s0f0",
    "sys/class/net/enp1s0f0np0/mtu",
    "proc/net/fib_trie",
    "etc/nccl.conf",
    "software.json",
    "sys/class/infiniband/rocep1s0f0/ports/1/gids/3",
]


def _replace(place: Path, how: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_symlink() or place.is_file():
        place.unlink()
    elif place.is_dir():
        place.rename(place.with_name(place.name + "-away"))
    match how:
        case "missing":
            return
        case "folder":
            place.mkdir()
        case "fifo":
            os.mkfifo(place)
        case "junk":
            place.write_bytes(bytes(random.Random(7).randbytes(4096)))
        case "huge":
            place.write_bytes(b"9" * 8_000_000)
        case "loop":
            place.symlink_to(place.name)
        case "parent":
            place.symlink_to("..")
        case "socket":
            import socket

            with socket.socket(socket.AF_UNIX) as s:
                here = os.getcwd()
                os.chdir(place.parent)  # the path of a socket is short
                try:
                    s.bind(place.name)
                finally:
                    os.chdir(here)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("how", ["missing", "folder", "fifo", "junk", "huge", "loop", "parent", "socket"])
def test_a_folder_with_something_odd_in_it(place: str, how: str, tmp_path: Path) -> None:
    root = _folder(tmp_path)
    _replace(root / place, how)
    survives("--root", root)


@pytest.mark.parametrize(
    "target",
    ["{outside}", "../../../../../../../../../../../../{outside}", "/dev/zero"],
    ids=["absolute", "relative", "device"],
)
def test_a_link_that_leads_out_is_not_followed(target: str, tmp_path: Path) -> None:
    """Neither to read nor to show: a recording may come from a stranger."""
    outside = tmp_path / "outside"
    outside.write_text("NCCL_IB_HCA=secret-of-this-machine\n")
    root = _folder(tmp_path)
    for place in ("etc/nccl.conf", "sys/class/infiniband/rocep1s0f0/ports/1/state", "software.json"):
        _replace(root / place, "missing")
        text = target.format(outside=str(outside) if target.startswith("{") else str(outside)[1:])
        (root / place).symlink_to(text)
    outcome = survives("--root", root)
    assert "secret-of-this-machine" not in json.dumps(outcome.document) + outcome.errors


@given(changes=st.lists(st.sampled_from(sorted(p for p in HEALTHY if "data" in HEALTHY[p])), min_size=1, max_size=60))
@FEW
def test_files_that_are_missing(changes: list[str], tmp_path: Path) -> None:
    file = tmp_path / "root-x.json"
    file.write_text(json.dumps({"tree": {path: entry for path, entry in HEALTHY.items() if path not in changes}}))
    outcome = survives("--root", file)
    assert not [f for f in outcome.document["faults"] if f["severity"] == "fault"], "a file that is missing is no fault"


@given(seed=st.integers(0, 1 << 30))
@settings(FEW, max_examples=25)
def test_lines_in_any_order(seed: int, tmp_path: Path) -> None:
    """Several processes' logs mixed, cut and repeated."""
    lines = [line for text in logs(cluster(3)).values() for line in text.splitlines()] + table(ramp(23.7)).splitlines()
    chosen = random.Random(seed).choices(lines, k=60)
    file = tmp_path / "mixed.log"
    file.write_text("\n".join(line[: random.Random(seed).randint(1, 200)] for line in chosen))
    survives("--nccl-log", file)


def test_many_hosts_and_logs(tmp_path: Path) -> None:
    words: list[object] = []
    for name, tree in trees(*pair()).items():
        for copy in range(4):
            words += ["--root", store_folder(tree, tmp_path / f"root-{name}{copy}")]
    survives(*words)

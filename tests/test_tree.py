"""Trees of /sys and /proc: a folder, a recording, and what hostile ones must not do."""

from __future__ import annotations

from contextlib import suppress
import errno
import json
import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
import pytest

from roofprobe.errors import BadInput
from roofprobe.fabric import read_counters, read_fabric
from roofprobe.recording import Entry, RecordedTree, open_tree
from roofprobe.tree import MAX_TEXT_BYTES, FolderTree, Tree, this_machine

RECORDING = Path(__file__).resolve().parent / "recordings" / "softroce.json"


def folder(tmp_path: Path) -> FolderTree:
    """A real/…/dev with a class link to it, as sysfs lays its devices out."""
    device = tmp_path / "sys" / "devices" / "pci0" / "eth9"
    device.mkdir(parents=True)
    (device / "mtu").write_text("9000\n")
    (device / "empty").write_text("\n")
    classes = tmp_path / "sys" / "class" / "net"
    classes.mkdir(parents=True)
    (classes / "eth9").symlink_to("../../devices/pci0/eth9")
    return FolderTree(tmp_path)


def recorded(**entries: dict[str, object]) -> RecordedTree:
    return RecordedTree({path: Entry(**entry) for path, entry in entries.items()})  # type: ignore[arg-type]


def test_a_folder_is_read_through_its_own_links(tmp_path: Path) -> None:
    tree = folder(tmp_path)
    assert tree.number("/sys/class/net/eth9/mtu") == 9000
    assert tree.children("/sys/class/net") == ("eth9",)
    assert tree.link("/sys/class/net/eth9") == "../../devices/pci0/eth9"
    assert tree.numbers("/sys/class/net/eth9") == {"mtu": 9000}
    assert tree.text("/sys/class/net/eth9/empty") is None


def test_a_recording_is_read_the_same_way_and_keeps_what_failed() -> None:
    tree = recorded(
        **{
            "/sys/class/net/eth9": {"link": "../../devices/pci0/eth9"},
            "/sys/devices/pci0/eth9/mtu": {"data": "9000\n"},
            "/sys/class/net/eth9/speed": {"errno": errno.EINVAL, "err": "Invalid argument"},
        }
    )
    assert tree.number("/sys/class/net/eth9/mtu") == 9000  # through the link
    assert tree.children("/sys/class/net/eth9") == ("mtu", "speed")
    assert tree.number("/sys/class/net/eth9/speed") is None
    assert tree.unreadable("/sys/class/net/eth9/speed") == errno.EINVAL
    assert tree.unreadable("/sys/class/net/eth9/absent") is None


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../../../../../../etc/passwd"])
def test_no_link_leads_out_of_a_folder(tmp_path: Path, target: str) -> None:
    (tmp_path / "sys").mkdir()
    (tmp_path / "sys" / "escape").symlink_to(target)
    assert FolderTree(tmp_path).read("/sys/escape") == errno.ENOENT
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("the recording's own")
    assert FolderTree(tmp_path).text("/sys/escape") == "the recording's own"
    assert FolderTree(tmp_path / "sys").read("/../etc/passwd") == errno.ENOENT


def test_loops_pipes_and_large_files_are_values_not_hangs(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"x" * (MAX_TEXT_BYTES + 1))
    tree = FolderTree(tmp_path)
    assert tree.unreadable("/a") == errno.ELOOP
    assert tree.text("/pipe") is None
    assert len(tree.text("/large") or "") == MAX_TEXT_BYTES
    assert tree.text("/large/below") is None
    assert tree.text("/nul\0") is None
    looped = recorded(**{"/a": {"link": "/b"}, "/b": {"link": "/a"}, "/c": {"link": "/c/d"}})
    assert [looped.text(path) for path in ("/a", "/b/x", "/c", "/c/d")] == [None] * 4


def test_this_machine_has_a_loopback() -> None:
    assert this_machine().children("/proc/self/net") or this_machine().text("/proc/net/dev")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"tree": 1}',
        '{"tree": {"/a": "text"}}',
        '{"tree": {"/a": {}}}',
        '{"tree": {"/a": {"data": 1}}}',
    ],
)
def test_what_is_no_recording_is_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "root.json"
    path.write_text(content)
    with pytest.raises(BadInput, match=r"root\.json is no recording") as caught:
        open_tree(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(BadInput, match="No such file"):
        open_tree(tmp_path / "absent.json")


PATHS = st.sampled_from(
    [
        "/sys/class/infiniband/a", "/sys/class/infiniband/a/ports/1", "/sys/class/infiniband/a/ports/1/rate",
        "/sys/class/infiniband/a/ports/1/gids/0", "/sys/class/infiniband/a/ports/1/counters/port_xmit_data",
        "/sys/class/infiniband/a/device", "/sys/class/net/e", "/sys/class/net/e/speed", "/proc/net/dev",
        "/proc/net/route", "/proc/net/fib_trie", "/sys", "/",
    ]
)  # fmt: skip
ENTRIES = st.one_of(
    st.builds(lambda t: {"data": t}, st.text() | st.from_regex(r"[0-9a-f:. |/\-+]{0,40}\n?")),
    st.builds(lambda p: {"link": p}, PATHS | st.sampled_from(["..", "../..", "a", ""])),
    st.just({"errno": 22}),
    st.just({"dir": 1}),
)


@given(st.dictionaries(PATHS, ENTRIES))
def test_no_recording_makes_the_readers_fail(entries: dict[str, dict[str, object]]) -> None:
    tree: Tree = recorded(**entries)
    read_fabric(tree)
    read_counters(tree)


@given(st.dictionaries(PATHS, st.binary(max_size=200)))
def test_no_folder_makes_the_readers_fail(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    root = tmp_path_factory.mktemp("root")
    for path, content in files.items():
        real = root / path.strip("/")
        if not real.exists() and all(not parent.is_file() for parent in real.parents):
            real.parent.mkdir(parents=True, exist_ok=True)
            real.write_bytes(content)
    read_fabric(FolderTree(root))
    read_counters(FolderTree(root))


@given(st.binary(max_size=300))
def test_a_damaged_recording_is_bad_input_or_read(tmp_path_factory: pytest.TempPathFactory, junk: bytes) -> None:
    path = tmp_path_factory.mktemp("cut") / "root.json"
    whole = json.dumps(json.loads(RECORDING.read_text())).encode()
    path.write_bytes(whole[: len(junk) * 90] + junk)
    with suppress(BadInput):
        read_fabric(open_tree(path))

"""``roofprobe doctor capture``: what may be attached to a bug report, and that it tells as much as the machine did."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
import re
import subprocess
import sys
from typing import Any

from doctor_cases.clean_others import softroce
from doctor_cases.clusters import trees, unit
from doctor_cases.every import CLEAN, FAULTS
from doctor_cases.recorded import Tree as Entries
from doctor_cases.recorded import put, store_folder, store_json
import msgspec
import pytest

from roofprobe.doctor import capture as module
from roofprobe.doctor.capture import capture
from roofprobe.doctor.case import Case
from roofprobe.doctor.diagnosis import diagnose
from roofprobe.doctor.host import Host, Software, look
from roofprobe.doctor.pseudonyms import Pseudonyms
from roofprobe.doctor.read_facts import facts_of
from roofprobe.doctor.software import platform_of, read_told
from roofprobe.fabric import read_fabric
from roofprobe.recording import open_tree
from roofprobe.tree import FolderTree, Tree

MAC = bytes.fromhex("5ceb7f0a9c31")
EUI64 = bytes([MAC[0] ^ 2]) + MAC[1:3] + b"\xff\xfe" + MAC[3:]
GUID = bytes.fromhex("5ceb7f03000a9c31")
USB = bytes.fromhex("02a1b2c3d4e5")
HOST_NAME, SERIAL, TOKEN, OWNER = "secretive-host", "SN-0042-7781", "hf_veryprivate", "jane-doe"
SPARK = trees(unit(nccl_conf="NCCL_IB_HCA=rocep1s0f0\n"))["spark-a"]
HALF = "/sys/class/infiniband/rocep1s0f0"


def groups(value: bytes, size: int, separator: str = ":") -> str:
    return separator.join(value[i : i + size].hex() for i in range(0, len(value), size))


def with_secrets() -> Entries:
    """A healthy unit's tree in which every place that could give something away does."""
    tree = {path: dict(entry) for path, entry in SPARK.items()}
    usb = f"enx{USB.hex()}"
    for path, text in {
        "/sys/class/net/enp1s0f0np0/address": groups(MAC, 1),
        f"/sys/class/net/{usb}/address": groups(USB, 1).upper(),
        f"/sys/class/net/{usb}/mtu": "1500",
        f"{HALF}/node_guid": groups(GUID, 2),
        f"{HALF}/sys_image_guid": groups(GUID, 2),
        f"{HALF}/node_desc": f"{HOST_NAME} mlx5_0",
        f"{HALF}/ports/1/gids/0": f"fe80:0000:0000:0000:{groups(EUI64, 2)}",
        f"{HALF}/ports/1/gids/1": f"fe80:0000:0000:0000:{groups(EUI64, 2)}",
        f"{HALF}/ports/1/gids/6": f"2001:0db8:1234:5678:{groups(GUID, 2)}",
        f"{HALF}/ports/1/gid_attrs/types/6": "RoCE v2",
        f"{HALF}/ports/1/gid_attrs/ndevs/6": usb,
        f"{HALF}/device/uevent": f"DRIVER=mlx5_core\nPCI_SLOT_NAME=0000:01:00.0\nSERIAL={SERIAL}",
        "/sys/class/dmi/id/product_serial": SERIAL,
        "/sys/class/dmi/id/board_serial": SERIAL,
        "/sys/class/dmi/id/product_uuid": SERIAL,
        "/proc/cpuinfo": f"processor\t: 0\nCPU part\t: 0xd85\nSerial\t\t: {SERIAL}",
        "/proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  580.95.05  Release"
        f" Build  ({OWNER}@{HOST_NAME})  Tue\nGCC version: {OWNER}",
        "/proc/driver/nvidia/gpus/000f:01:00.0/information": f"Model: \t NVIDIA GB10\nGPU UUID: \t {SERIAL}",
        "/etc/nccl.conf": f"# {OWNER} on {HOST_NAME}\nNCCL_IB_HCA=rocep1s0f0\nNCCL_WHATEVER={TOKEN}\nexport A={TOKEN}",
        "/etc/hostname": HOST_NAME,
        "/etc/hosts": f"10.0.0.1 {HOST_NAME}",
        "/etc/machine-id": SERIAL,
        "/proc/sys/kernel/hostname": HOST_NAME,
        "/proc/self/environ": f"HF_TOKEN={TOKEN}\0",
        "/proc/self/cmdline": TOKEN,
        "/proc/self/cgroup": f"0::/user.slice/{OWNER}",
        "/proc/self/status": f"Name:\t{OWNER}\nCapEff:\t0000000000000000",
        "/proc/net/arp": f"10.0.0.9 0x1 0x2 {groups(MAC, 1)} * enp1s0f0np0",
        "/proc/net/if_inet6": f"fe80000000000000{EUI64.hex()} 05 40 20 80 enp1s0f0np0",
        "/proc/net/dev": f"Inter-|\n face |\n{usb}: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16",
        "/run/.containerenv": f'name="{OWNER}"',
        "/.dockerenv": "",
        "/dev/infiniband/uverbs0": "",
        "/dev/null": "",
    }.items():
        put(tree, path, text)
    return tree


def recorded(tree: Tree, path: Path, software: Software | None = None, **environment: str) -> Path:
    path.write_bytes(capture(tree, software or Software(), environment))
    return path


def test_nothing_that_identifies_is_recorded(tmp_path: Path) -> None:
    tree = FolderTree(store_folder(with_secrets(), tmp_path / "root"))
    assert tree.text("/etc/hostname") == HOST_NAME and tree.text(f"{HALF}/node_guid") == groups(GUID, 2)
    path = recorded(tree, tmp_path / "a.json", HF_TOKEN=TOKEN, NCCL_COMM_ID=TOKEN, NCCL_ALGO="Ring", HOME=OWNER)
    text = path.read_text().lower()
    for secret in (HOST_NAME, SERIAL, TOKEN, OWNER):
        assert secret.lower() not in text
    for address in (MAC, USB, EUI64, GUID):
        # Its last three bytes are the card's own number; in front stands its maker's.
        for part in (address, address[-3:]):
            for size, separator in ((1, ":"), (1, "-"), (1, ""), (2, ":"), (2, "")):
                assert groups(part, size, separator) not in text
    assert f"{MAC[3]:02x}:{MAC[4]:02x}{MAC[5]:02x}" not in text
    told = json.loads(path.read_text())
    assert told["environment"] == {"NCCL_ALGO": "Ring"}
    assert told["tree"]["/etc/nccl.conf"] == {"data": "NCCL_IB_HCA=rocep1s0f0\n"}
    assert "host" not in told


def test_pseudonyms_keep_what_belongs_together(tmp_path: Path) -> None:
    tree = FolderTree(store_folder(with_secrets(), tmp_path / "root"))
    told = [json.loads(recorded(tree, tmp_path / f"{i}.json").read_text())["tree"] for i in range(2)]
    mac, guid, gid, by_ipv6 = (
        bytes.fromhex(re.sub("[:\n]", "", told[0][path]["data"]))
        for path in (
            "/sys/class/net/enp1s0f0np0/address", f"{HALF}/node_guid",
            f"{HALF}/ports/1/gids/0", f"{HALF}/ports/1/gids/6",
        )
    )  # fmt: skip
    assert told[0][f"{HALF}/sys_image_guid"] == told[0][f"{HALF}/node_guid"]
    assert mac[0] & 3 == 2, "a locally administered address of one card"
    assert gid == bytes.fromhex("fe80000000000000") + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]
    assert by_ipv6[8:] == guid and by_ipv6[0] == 0xFD
    assert told[0][f"{HALF}/ports/1/gids/1"] == told[0][f"{HALF}/ports/1/gids/0"]
    (usb,) = (path for path in told[0] if re.search(r"/enx[0-9a-f]{12}/address$", path))
    name = usb.split("/")[4]
    assert told[0][usb]["data"].strip().replace(":", "") == name.removeprefix("enx")
    assert told[0][f"{HALF}/ports/1/gid_attrs/ndevs/6"]["data"].strip() == name
    assert name in told[0]["/proc/net/dev"]["data"]
    assert usb not in told[1], "the key is of one recording"


def test_index_and_type_of_a_gid_stay_and_ipv4_stays_readable(tmp_path: Path) -> None:
    tree = FolderTree(store_folder(with_secrets(), tmp_path / "root"))
    before, after = (
        read_fabric(t).device("rocep1s0f0") for t in (tree, open_tree(recorded(tree, tmp_path / "a.json")))
    )
    assert before is not None and after is not None
    gids = [[(g.index, g.type, g.ipv4) for g in device.ports[0].gids] for device in (before, after)]
    assert gids[0] == gids[1] and len(gids[0]) == 5


@pytest.mark.parametrize(
    "kept",
    [
        "0000:0000:0000:0000:0000:ffff:0a00:0001",
        "0000:0000:0000:0000:0000:0000:0000:0000",
        "../../../devices/pci0002:00/0002:00:00.0/0002:01:00.0",
        "inter 0000A8C0 00:00 12:34:56 fe80::1 enp1s0f0np0 enxylophone 10.0.0.1/24",
        "00:00:00:00:00:00",
    ],
)
def test_what_identifies_nothing_stays(kept: str) -> None:
    assert Pseudonyms().replaced(kept) == kept


def judged(name: str, path: Path) -> Host:
    tree = open_tree(path)
    told = read_told(path, tree)
    return look(name, tree, told.software, platform_of(told.software, tree), told.environment)


def without_addresses(host: Host) -> Any:
    """A fabric with pseudonyms in it differs in raw GIDs alone."""
    return re.sub(r'"gid":"[^"]*"', "", msgspec.json.encode(host.fabric).decode())


@pytest.mark.parametrize("case", [c for c in (*CLEAN, *FAULTS) if c.roots], ids=lambda case: case.name)
def test_a_recording_tells_what_the_machine_did(case: Any, tmp_path: Path) -> None:
    """Of every case that has a tree: the same facts, and the same findings from the recordings together."""
    hosts = []
    for name, entries in case.roots.items():
        first = judged(name, store_json(entries, tmp_path / f"{name}.json"))
        again = judged(
            name, recorded(first.tree, tmp_path / f"again-{name}.json", first.software, **first.nccl_environment)
        )
        assert facts_of(again) == facts_of(first)
        assert without_addresses(again) == without_addresses(first)
        hosts.append((first, again))
    firsts, seconds = (Case(hosts=tuple(each)) for each in zip(*hosts))
    assert diagnose(seconds) == diagnose(firsts)


def test_unreadable_files_keep_their_errno(tmp_path: Path) -> None:
    tree = open_tree(store_json(softroce(), tmp_path / "root.json"))
    again = open_tree(recorded(tree, tmp_path / "again.json"))
    unreadable = [p for p in (f"/sys/class/infiniband/rxe0/ports/1/gid_attrs/types/{i}" for i in range(8))
                  if tree.unreadable(p) == errno.EINVAL]  # fmt: skip
    assert unreadable
    assert all(again.unreadable(path) == errno.EINVAL for path in unreadable)


def test_a_recording_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with thousands of interfaces: the RDMA devices come first, and what is missing is said."""
    tree = FolderTree(store_folder(SPARK, tmp_path / "root"))
    monkeypatch.setattr(module, "MAX_ENTRIES", 100)
    told = json.loads(capture(tree, Software(), {}))
    assert len(told["tree"]) == 100 and told["incomplete"].startswith("ended at /sys/")
    monkeypatch.setattr(module, "MAX_ENTRIES", 50_000)
    assert "incomplete" not in json.loads(capture(tree, Software(), {}))


def test_a_device_is_never_opened(tmp_path: Path) -> None:
    """A FIFO in its place would make whoever opens it wait; only the name is recorded."""
    folder = store_folder(SPARK, tmp_path / "root")
    (folder / "dev" / "infiniband").mkdir(parents=True, exist_ok=True)
    os.mkfifo(folder / "dev" / "infiniband" / "uverbs7")
    told = json.loads(capture(FolderTree(folder), Software(), {}))["tree"]
    assert told["/dev/infiniband/uverbs7"] == {"dir": 1}


def test_the_command_records_this_machine(tmp_path: Path) -> None:
    def doctor(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "roofprobe", "doctor", *words], cwd=tmp_path,
                              capture_output=True, text=True, timeout=60, check=False)  # fmt: skip

    assert doctor("capture", "root-here.json").returncode == 0
    told = json.loads((tmp_path / "root-here.json").read_text())
    assert "host" not in told and told["software"]["torch"]
    facts = [json.loads(doctor(*words, "--json").stdout)["facts"] for words in ((), ("--root", "root-here.json"))]
    (live,), (recording,) = (each.values() for each in facts)
    for each in (live, recording):  # what changes by itself
        del each["memory"], each["interfaces"]
    assert live == recording
    assert doctor("capture", "root-here.json").returncode == 2
    assert doctor("capture", "named.json", "--hostname").returncode == 0
    assert json.loads((tmp_path / "named.json").read_text())["host"] == os.uname().nodename

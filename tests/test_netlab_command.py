"""scripts/netlab as people use it, from up to down, and what it says where it can't."""

from __future__ import annotations

from collections.abc import Iterator
import os
from pathlib import Path
import re
import shutil
import signal
import subprocess
import threading
import time

from netlab_nodes import Lab, down
import netlab_ranks
import psutil
import pytest
from real_nodes import NETLAB, lab, lab_name, left_of, netlab, netlab_environment

needs_nodes = pytest.mark.netns


@pytest.fixture(scope="module")
def three() -> Iterator[Lab]:
    with lab(3) as nodes:
        yield nodes


@pytest.fixture
def name() -> Iterator[str]:
    """A lab's name, and the lab taken down whatever the test leaves."""
    chosen = lab_name()
    yield chosen
    down(chosen)


@needs_nodes
def test_the_command_line_from_up_to_down(name: str) -> None:
    made = netlab("up", "2", "--rate", "1gbit", "--delay", "1ms", name=name)
    assert made.returncode == 0, made.stderr
    assert made.stdout.splitlines()[1].startswith("node2 10.77.0.2 eth0 up, 1Gbit, delay 1 ms")
    again = netlab("up", "2", name=name)
    assert again.returncode == 2
    complaint = f"lab {name} is up already; take it down first (netlab down), or name another (--lab)"
    assert again.stderr == f"netlab: {complaint}\n"
    assert netlab("link", "1", "down", name=name).returncode == 0
    assert netlab("shape", "2", "--rate", "50mbit", "--delay", "250us", name=name).returncode == 0
    first, second = netlab("status", name=name).stdout.splitlines()
    assert "eth0 DOWN, 1Gbit" in first
    assert "eth0 up, 50Mbit, delay 0.25 ms" in second
    both = netlab("run", "--", "sh", "-c", 'echo "$(hostname) $RANK/$WORLD_SIZE $GLOO_SOCKET_IFNAME"', name=name)
    assert sorted(both.stdout.splitlines()) == ["node1: node1 0/2 eth0", "node2: node2 1/2 eth0"]
    one = netlab("exec", "2", "--", "sh", "-c", "hostname; exit 5", name=name)
    assert (one.stdout, one.returncode) == ("node2\n", 5)
    asleep = subprocess.Popen([NETLAB, "exec", "--lab", name, "1", "--", "sleep", "600"], env=netlab_environment())
    deadline = time.monotonic() + 10
    while psutil.Process(asleep.pid).cmdline() != ["sleep", "600"] and time.monotonic() < deadline:
        time.sleep(0.05)
    asleep.send_signal(signal.SIGSTOP)
    assert [netlab("down", name=name).returncode for _ in range(2)] == [0, 0]
    assert asleep.wait(5) == -signal.SIGKILL
    assert left_of(name) == []
    assert netlab("status", name=name).stdout == f"lab {name} is not up\n"
    assert netlab("run", "--", "true", name=name).returncode == 2


@needs_nodes
@pytest.mark.parametrize(
    ("script", "status"),
    [("exit $((RANK + 3))", 3), ("kill -9 $$", 137), ("exit $RANK", 1), ("true", 0)],
    ids=["the first node's", "a signal", "only the last fails", "well"],
)
def test_run_ends_with_the_first_failure(three: Lab, script: str, status: int) -> None:
    assert netlab("run", "--", "sh", "-c", script, name=three.name).returncode == status


@needs_nodes
def test_a_python_program_is_started_by_torchrun(three: Lab, tmp_path: Path) -> None:
    pytest.importorskip("torch.distributed")
    program = tmp_path / "place.py"
    program.write_text(
        "import os, socket, sys\n"
        "print(socket.gethostname(), os.environ['RANK'], os.environ['TORCHELASTIC_RUN_ID'], *sys.argv[1:])\n"
    )
    done = netlab("run", "--", str(program), "--max", "3", name=three.name)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [f"node{i}: node{i} {i - 1} none --max 3" for i in (1, 2, 3)]


@needs_nodes
def test_ending_run_ends_the_command_on_every_node(three: Lab) -> None:
    mark = "86399"
    running = subprocess.Popen(
        [NETLAB, "run", "--lab", three.name, "--", "sh", "-c", f"echo started; sleep {mark}"],
        env=netlab_environment(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert running.stdout is not None
    for _ in three.nodes:
        assert running.stdout.readline().endswith("started\n")
    running.send_signal(signal.SIGTERM)
    assert running.wait(20) == 3
    running.stdout.close()
    assert [p.pid for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or [])[-1:] == [mark]] == []


def test_an_interruption_while_the_readers_start_ends_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(threading.Thread):
        def start(self) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(netlab_ranks, "Thread", Interrupted)
    with subprocess.Popen(["sleep", "60"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        with pytest.raises(KeyboardInterrupt):
            netlab_ranks.pass_on({"node1": process})
        assert process.returncode is not None


@needs_nodes
def test_without_the_right_to_namespaces_a_user_namespace_holds_the_lab(name: str) -> None:
    if os.geteuid() or shutil.which("setpriv") is None:
        pytest.skip("root drops rights by setpriv here; without root, every other test takes this way")
    without = ("setpriv", "--bounding-set=-sys_admin,-net_admin,-sys_nice", "--inh-caps=-all")
    made = netlab("up", "2", "--rate", "1gbit", "--delay", "1ms", name=name, before=without)
    if made.returncode == 3:
        pytest.skip(made.stderr.strip())
    assert made.returncode == 0, made.stderr
    assert netlab("run", "--", "hostname", name=name, before=without).stdout.count("node") == 4
    assert f"-{name}-" not in subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    assert [netlab("down", name=name, before=without).returncode for _ in range(2)] == [0, 0]
    assert left_of(name) == []


def test_where_namespaces_are_forbidden_one_line_says_so(tmp_path: Path) -> None:
    (tmp_path / "unshare").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "unshare").chmod(0o755)
    for program in ("ip", "tc", "nsenter"):
        (tmp_path / program).symlink_to("/bin/false")
    done = netlab("up", "2", name=lab_name(), PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 3
    assert re.fullmatch(r"netlab: this system forbids network namespaces, .*CAP_NET_ADMIN\n", done.stderr)


def test_missing_programs_are_named(tmp_path: Path) -> None:
    for program in ("bash", "readlink", "dirname"):
        (tmp_path / program).symlink_to(str(shutil.which(program)))
    done = netlab("up", "2", name=lab_name(), PATH=str(tmp_path))
    assert done.returncode == 3
    assert done.stderr == "netlab: needs ip, tc, unshare, nsenter, setsid; install iproute2 and util-linux\n"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["up", "9"], "a lab of 9 nodes is not possible; expected 2 to 8"),
        (["up", "1"], "a lab of 1 nodes is not possible"),
        (["up", "2", "--rate", "3"], "'3' is not a rate"),
        (["up", "2", "--rate", "0gbit"], "'0gbit' is not a rate"),
        (["up", "2", "--delay", "1"], "'1' is not a delay"),
        (["up", "2", "--", "true"], "up takes no command"),
        (["run"], "is not up"),
        (["shape", "1"], "is not up"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_requests_are_one_line(words: list[str], complaint: str) -> None:
    done = netlab(*words, name=lab_name())
    assert done.returncode == 2
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_lab_can_t_be_named_like_a_part_of_another() -> None:
    assert "can't name a lab" in netlab("up", "2", name="a-1").stderr

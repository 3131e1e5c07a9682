"""`roofprobe launch` over real ssh between network namespaces, and what it says when a host can't be used."""

from __future__ import annotations

from collections.abc import Iterator
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
from time import monotonic, sleep

import psutil
import pytest

from roofprobe.errors import BAD_INPUT, FAILED
from roofprobe.probes import launch

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))
from netlab_build import up  # noqa: E402
from netlab_nodes import Lab, down  # noqa: E402

from roofprobe.errors import RoofprobeError  # noqa: E402

LAUNCH = [sys.executable, "-m", "roofprobe.probes.launch"]
LAB = f"launch{os.getpid() % 10**6}"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, str]]:
    """Two nodes, each with a real sshd, and the ssh command that reaches them."""
    sshd = next((path for path in ("/usr/sbin/sshd", "/usr/local/sbin/sshd") if os.access(path, os.X_OK)), None)
    if sshd is None:
        pytest.skip("no sshd here (openssh-server)")
    try:
        made = up(LAB, 2)
    except RoofprobeError as error:
        pytest.skip(f"no network namespaces here: {error}")
    folder = tmp_path_factory.mktemp("ssh")
    servers = []
    try:
        for key in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
        (folder / "authorized_keys").write_text((folder / "user.pub").read_text())
        (folder / "sshd_config").write_text(
            f"HostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized_keys\nPidFile none\nStrictModes no\n"
            "PasswordAuthentication no\nUsePAM no\nPermitRootLogin prohibit-password\n"
        )
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd wants it for its privilege separation
        for node in made.nodes:
            servers.append(made.start(node, [sshd, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=-3))
        ssh = (
            f"ssh -F none -i {folder}/user -o BatchMode=yes -o ConnectTimeout=5 -o StrictHostKeyChecking=no"
            f" -o UserKnownHostsFile={folder}/known -o LogLevel=ERROR"
        )
        _wait_for_sshd(made, ssh)
        yield made, ssh
    finally:
        for server in servers:
            server.kill()
            server.wait()
        down(LAB)


def _wait_for_sshd(made: Lab, ssh: str) -> None:
    deadline = monotonic() + 10
    for node in made.nodes:
        reach = made.command(1, [*ssh.split(), made.address(node), "true"])
        while subprocess.run(reach, capture_output=True).returncode:
            assert monotonic() < deadline, "sshd does not answer"
            sleep(0.1)


def start(lab: tuple[Lab, str], hosts: str, *words: str) -> subprocess.Popen[str]:
    made, ssh = lab
    command = made.command(1, [*LAUNCH, "--hosts", hosts, "--ssh", ssh, *words])
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    )


def ranks_of(lab: Lab) -> list[int]:
    """Processes of roofprobe's on any node."""
    found = []
    for node in lab.nodes:
        pids = subprocess.run(
            ["ip", "netns", "pids", lab.namespace(node)], capture_output=True, text=True, check=True
        ).stdout.split()
        for pid in map(int, pids):
            try:
                if any("roofprobe.probes" in word for word in psutil.Process(pid).cmdline()):
                    found.append(pid)
            except psutil.NoSuchProcess:
                continue
    return found


@pytest.mark.netns
def test_a_probe_runs_on_both_hosts_and_rank_0_prints(lab: tuple[Lab, str], tmp_path: Path) -> None:
    record = tmp_path / "out.json"
    launched = start(lab, "10.77.0.2,10.77.0.1", "--", "allreduce", "-b", "1K", "-e", "4K", "-J", str(record))
    out, err = launched.communicate(timeout=120)
    assert launched.returncode == 0, err
    assert "2 ranks on 10.77.0.2, 10.77.0.1, meeting over 10.77.0.0/24 (eth0, eth0" in err
    assert "# Out of bounds values : 0 OK" in out and not out.startswith("[")
    devices = json.loads(record.read_text())["config"]["devices"]
    assert [d["hostname"] for d in devices] == ["node2", "node1"], "the first host has rank 0"


@pytest.mark.netns
def test_ctrl_c_leaves_no_rank_behind(lab: tuple[Lab, str]) -> None:
    launched = start(lab, "10.77.0.1,10.77.0.2", "--", "allreduce", "-b", "1M", "-e", "1M", "-n", "1000000")
    assert launched.stdout is not None
    for line in launched.stdout:
        if "(elements)" in line:
            break
    assert len(ranks_of(lab[0])) >= 4, "an agent and a rank on each host"
    launcher = next(p for p in [psutil.Process(launched.pid), *psutil.Process(launched.pid).children(recursive=True)]
                    if "roofprobe.probes.launch" in p.cmdline())  # fmt: skip
    launcher.send_signal(signal.SIGINT)
    launched.communicate(timeout=60)
    assert launched.returncode == 3
    assert ranks_of(lab[0]) == []


@pytest.mark.netns
def test_a_launcher_that_is_killed_leaves_no_rank_behind_either(lab: tuple[Lab, str]) -> None:
    launched = start(lab, "10.77.0.1,10.77.0.2", "--", "allreduce", "-b", "1M", "-e", "1M", "-n", "1000000")
    assert launched.stdout is not None
    for line in launched.stdout:
        if "(elements)" in line:
            break
    launched.kill()
    launched.communicate(timeout=60)
    deadline = monotonic() + 30
    while ranks_of(lab[0]) and monotonic() < deadline:
        sleep(0.2)
    assert ranks_of(lab[0]) == []


@pytest.mark.netns
def test_a_host_that_can_not_be_reached_is_named(lab: tuple[Lab, str]) -> None:
    launched = start(lab, "10.77.0.1,10.77.0.99", "--timeout", "10", "--", "allreduce")
    _, err = launched.communicate(timeout=60)
    assert launched.returncode == FAILED
    assert "10.77.0.99" in err.strip().splitlines()[-1] and "without a password" in err
    assert ranks_of(lab[0]) == []


@pytest.mark.netns
def test_a_host_without_roofprobe_at_that_path_is_named(lab: tuple[Lab, str]) -> None:
    launched = start(lab, "10.77.0.1,10.77.0.2", "--python", "/nowhere/python", "--", "allreduce")
    _, err = launched.communicate(timeout=60)
    assert launched.returncode == FAILED and "/nowhere/python" in err


def test_on_this_host_alone_it_needs_no_ssh(capfd: pytest.CaptureFixture[str]) -> None:
    """Two ranks of localhost; skipped where the host has no address but loopback to meet on."""
    from roofprobe.probes.launch_agent import addresses

    if not addresses():
        pytest.skip("this host has no network address")
    arguments = ["--hosts", "localhost", "--nproc-per-node", "2", "--ssh", "/nowhere/ssh", "--port", "29631"]
    assert launch.main([*arguments, "allreduce", "-b", "1K", "-e", "4K"]) == 0
    assert "Avg bus bandwidth" in capfd.readouterr().out


def fake_ssh(folder: Path, body: str) -> str:
    """Something in ssh's place: a script that gets HOST COMMAND."""
    script = folder / "ssh"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    return str(script)


def test_what_a_shells_start_up_files_print_is_passed_over(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from roofprobe.probes.launch_agent import addresses

    if not addresses():
        pytest.skip("this host has no network address")
    ssh = fake_ssh(tmp_path, 'echo Welcome to far; echo; shift; exec sh -c "$*"')
    arguments = ["--hosts", "far", "--ssh", ssh, "--port", "29632", "--", "allreduce", "-b", "1K", "-e", "1K"]
    assert launch.main(arguments) == 0
    assert "Avg bus bandwidth" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param("echo no such key >&2; exit 255", "far: no such key", id="refused"),
        pytest.param("exec >&-; sleep 30", "far: ended with status", id="silent but alive"),
    ],
)
def test_a_host_that_never_becomes_an_agent_is_told_at_once(
    body: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch.main(["--hosts", "far", "--ssh", fake_ssh(tmp_path, body), "--", "allreduce"]) == FAILED
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--hosts", "-oProxyCommand=x", "--", "allreduce"], "expected one argument", id="a flag for ssh"),
        pytest.param(["--hosts", "a,,b", "--", "allreduce"], "different names", id="an empty name"),
        pytest.param(["--hosts", "a,a", "--", "allreduce"], "different names", id="a host twice"),
        pytest.param(["--hosts", "a", "--env", "X Y", "--", "allreduce"], "expected NAME=VALUE", id="no variable"),
        pytest.param(["--hosts", "a", "--", "gemv"], "invalid choice", id="a probe that has no ranks"),
    ],
)
def test_bad_input_is_one_line_and_starts_nothing(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = launch.main(arguments)
    except SystemExit as end:
        status = int(str(end.code))
    assert status == BAD_INPUT
    told = capsys.readouterr().err
    assert words in told and len(told.splitlines()) == 1

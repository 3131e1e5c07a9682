"""The far side of `roofprobe launch`, started through ssh on each host: says what the host is, then runs torchrun.

When stdin ends, because the launcher ended, was killed or lost its connection, torchrun is told to end, and what is
left of it after a few seconds is killed.
"""

from __future__ import annotations

from contextlib import suppress
import ipaddress
import os
from pathlib import Path
import platform
import select
import signal
import socket
import subprocess
import sys
from threading import Thread
import time

import msgspec

from roofprobe import __version__
from roofprobe.errors import BAD_INPUT, FAILED
from roofprobe.probes.launch_protocol import Address, Facts, FromLauncher, Ping, Pong, Start, line

GRACE_SECONDS = 5.0
_decoder: msgspec.json.Decoder[FromLauncher] = msgspec.json.Decoder(FromLauncher)


def main() -> int:
    """Answers until told to start, then returns torchrun's status; 2 where the launcher's words make no sense."""
    _say(line(facts()))
    while True:
        words = sys.stdin.buffer.readline()
        if not words:
            return FAILED
        try:
            message = _decoder.decode(words)
        except msgspec.MsgspecError as error:
            print(f"roofprobe launch: on {socket.gethostname()}: not a launcher's message: {error}", file=sys.stderr)
            return BAD_INPUT
        if isinstance(message, Ping):
            _say(line(Pong(time_seconds=time.time())))
        else:
            return _run(message)


def _say(words: bytes) -> None:
    sys.stdout.buffer.write(words)
    sys.stdout.buffer.flush()


def facts() -> Facts:
    """This host, seen now. Imports torch, which takes a second or two."""
    import psutil

    from roofprobe.environment import read_environment

    environment = read_environment()
    return Facts(
        hostname=socket.gethostname(),
        python=platform.python_version(),
        roofprobe=__version__,
        torch=environment.torch or "none",
        nccl=environment.nccl,
        gpus=len(environment.devices),
        memory_available_bytes=psutil.virtual_memory().available,
        addresses=addresses(),
    )


def addresses(sysfs: Path = Path("/sys")) -> tuple[Address, ...]:
    """IPv4 addresses of interfaces that are up, loopback left out."""
    import psutil

    states = psutil.net_if_stats()
    found = []
    for interface, entries in psutil.net_if_addrs().items():
        state = states.get(interface)
        if state is None or not state.isup:
            continue
        for entry in entries:
            if entry.family != socket.AF_INET or not entry.netmask or ipaddress.ip_address(entry.address).is_loopback:
                continue
            prefix = ipaddress.ip_interface(f"{entry.address}/{entry.netmask}")
            found.append(
                Address(
                    interface=interface,
                    address=str(prefix),
                    megabits_per_s=state.speed,
                    rdma=(sysfs / "class/net" / interface / "device/infiniband").exists(),
                )
            )
    return tuple(found)


def _run(start: Start) -> int:
    process = subprocess.Popen(
        [sys.executable, "-m", "roofprobe.probes.launch_torchrun", *start.arguments],
        env={**os.environ, **start.environment},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    Thread(target=_end_with_stdin, args=(process,), daemon=True).start()
    # Told to end by anyone, it takes torchrun with it, which would outlive it in its own session.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: _end(process))
    status = process.wait()
    return status if status >= 0 else FAILED


def _end_with_stdin(process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        readable, _, _ = select.select([sys.stdin], [], [], 1.0)
        if readable and not os.read(sys.stdin.fileno(), 4096):
            _end(process)
            return


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends torchrun and its ranks: on SIGTERM it passes the word on; whatever is left after a while is killed.

    A rank has a session of its own, and torchrun gives a stopped one 30 s: so the ranks are looked up, not grouped.
    """
    import psutil

    with suppress(psutil.NoSuchProcess):
        torchrun = psutil.Process(process.pid)
        ranks = torchrun.children(recursive=True)
        torchrun.terminate()
        _, left = psutil.wait_procs([torchrun, *ranks], timeout=GRACE_SECONDS)
        for each in left:
            with suppress(psutil.NoSuchProcess):
                each.kill()


if __name__ == "__main__":
    raise SystemExit(main())

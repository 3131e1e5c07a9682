"""What NCCL's log says of the link: sockets instead of RDMA, one half of a port, NICs that differ between hosts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
import re

from roofprobe.doctor.case import Case
from roofprobe.doctor.jobs import jobs
from roofprobe.doctor.nccl_names import nccl_environment, parse_names
from roofprobe.doctor.ports import HALF_DOMAINS
from roofprobe.finding import Finding, OwnFinding
from roofprobe.nccl_log_summary import ProcessLog

_HALF = re.compile(r"roce(?:P([0-9]))?p1s0f([01])")
_MIXED = "Detected mixed local Net device counts across ranks"
_CONTAINER = (
    "Check that ls /dev/infiniband shows uverbs devices, ibv_devinfo a port in state ACTIVE and ulimit -l unlimited; in"
    " a container add --device=/dev/infiniband --ulimit memlock=-1 --cap-add=IPC_LOCK."
)


def logged_sockets(case: Case) -> Iterator[Finding]:
    """One a host. Where nothing leaves a host, or it is known to have no RDMA device to use, sockets are right."""
    told: set[str] = set()
    for job in jobs(case):
        if job.within_a_host:
            continue
        for process in job.processes:
            signs = _socket_signs(process)
            if signs and process.host not in told and not _without_rdma(case, process.host):
                told.add(process.host)
                kind, asked, remedy = _asked_for(_environment(case, process))
                yield kind(
                    id="link.socket-fallback",
                    severity="fault",
                    host=process.host,
                    evidence=f"NCCL's log says {', '.join(signs)}{asked}; expected Using network IB and via NET/IB/",
                    remedy=remedy,
                )


def logged_half(case: Case) -> Iterator[Finding]:
    """GB10's device names alone tell that a device has a twin; merged devices count as all that they are made of."""
    for host, (process, devices) in _listed(case).items():
        lone = _lone_halves(devices)
        if not lone:
            continue
        pinned = _environment(case, process).get("NCCL_IB_HCA")
        names = parse_names(pinned)
        left_out = names is not None and not all(names.select(twin) for twin in lone.values())
        why = f"; NCCL_IB_HCA={pinned} leaves the other out" if left_out else ""
        both = ",".join(f"{half},{twin}" for half, twin in lone.items())
        check = "" if left_out else f"; bring {' and '.join(lone.values())} up first, each on a subnet of its own"
        kind = OwnFinding if left_out else Finding
        yield kind(
            id="link.one-half",
            severity="fault",
            host=host,
            evidence=f"NET/IB : Using lists {', '.join(devices)} without {' and '.join(lone.values())}, the other half"
            f" of the same QSFP port{why}: at most 98 of 200 Gb/s",
            remedy=f"Set NCCL_IB_HCA={both} on every host{check}.",
        )


def logged_asymmetry(case: Case) -> Iterator[Finding]:
    """By NCCL's own complaint, or by the lists of the hosts of one job; a half that is missing is link.one-half."""
    listed = _listed(case)
    for job in jobs(case):
        counts = {host: _whole_count(listed[host][1]) for host in job.hosts if host in listed}
        said = _first_warning(job.processes, _MIXED)
        # A host that found no NIC at all has fallen back to sockets, and that is what is wrong with it.
        if any(map(_socket_signs, job.processes)) or not (said or len(set(counts.values())) > 1):
            continue
        shown = {host: listed[host][1] for host in counts}
        lists = "; ".join(f"{host} lists {len(found)} ({', '.join(found)})" for host, found in shown.items())
        odd = _odd({host: len(found) for host, found in shown.items()})
        most = max(map(len, shown.values()), default=0)
        # A host that has most is odd because of what the others lack.
        kind = OwnFinding if odd and all(len(shown[host]) < most for host in odd) else Finding
        odd = odd or job.hosts
        yield kind(
            id="link.nic-asymmetry",
            severity="fault",
            host=", ".join(odd),
            evidence="; ".join(filter(None, (said, lists))) + "; expected as many NICs on every host",
            remedy=f"Make {' and '.join(odd)} show the NICs that the others have: compare ibdev2netdev on all hosts,"
            " bring up the port that is missing, and set the same NCCL_IB_HCA everywhere.",
        )


def _socket_signs(process: ProcessLog) -> list[str]:
    over = {each.detail for each in process.connections if each.kind == "NET"}
    if process.network not in (None, "Socket") or (over and "Socket" not in over):
        return []
    signs = []
    if process.nics.get("IB") == ():
        signs.append("NET/IB : No device found.")
    if process.network == "Socket":
        signs.append("Using network Socket")
    if "Socket" in over:
        signs.append("via NET/Socket/")
    return signs


def _without_rdma(case: Case, name: str) -> bool:
    """A recorded host that has no RDMA device and should have none."""
    host = case.host(name)
    return host is not None and not host.is_gb10 and not host.fabric.devices


def _asked_for(environment: Mapping[str, str]) -> tuple[type[Finding], str, str]:
    """What in the environment asked for sockets, whether it surely did, and how to take that back."""
    disabled, network, devices = (environment.get(name, "") for name in ("NCCL_IB_DISABLE", "NCCL_NET", "NCCL_IB_HCA"))
    kind: type[Finding] = OwnFinding
    if disabled not in ("", "0"):
        name, told = "NCCL_IB_DISABLE", f"NCCL_IB_DISABLE={disabled} asks for that"
    elif network.lower() == "socket":
        name, told = "NCCL_NET", f"NCCL_NET={network} asks for that"
    elif devices:
        # A good list finds no device either, where the ports are down.
        kind, name, told = Finding, "NCCL_IB_HCA", f"NCCL_IB_HCA={devices} may leave every device out"
    else:
        return Finding, "", _CONTAINER
    return kind, f"; {told}", f"Unset {name} (in the environment and in /etc/nccl.conf) and run again. {_CONTAINER}"


def _environment(case: Case, process: ProcessLog) -> Mapping[str, str]:
    """What the process' log says was set, and what its host's files say where they were given too."""
    host = case.host(process.host)
    return {**(nccl_environment(case, host) if host is not None else {}), **process.environment}


def _listed(case: Case) -> dict[str, tuple[ProcessLog, tuple[str, ...]]]:
    """Host -> the process that listed most RDMA devices there, and their names."""
    found: dict[str, tuple[ProcessLog, tuple[str, ...]]] = {}
    for process in case.processes:
        devices = tuple(dict.fromkeys(name for nic in process.nics.get("IB", ()) for name in nic))
        if devices and len(devices) > len(found.get(process.host, (process, ()))[1]):
            found[process.host] = process, devices
    return found


def _lone_halves(devices: Iterable[str]) -> dict[str, str]:
    """Device -> its twin on the same QSFP port, where that is not there."""
    names = set(devices)
    twins = {name: _twin(name) for name in names}
    return {name: twin for name, twin in sorted(twins.items()) if twin is not None and twin not in names}


def _twin(device: str) -> str | None:
    found = _HALF.fullmatch(device)
    if found is None or f"{int(found[1] or 0):04}" not in HALF_DOMAINS:
        return None
    return f"rocep1s0f{found[2]}" if found[1] else f"roceP2p1s0f{found[2]}"


def _whole_count(devices: tuple[str, ...]) -> int:
    """How many there would be with every half's twin."""
    return len(devices) + len(_lone_halves(devices))


def _first_warning(processes: Iterable[ProcessLog], start: str) -> str | None:
    texts = (text for process in processes for text in process.warnings.values())
    return next((text for text in texts if text.startswith(start)), None)


def _odd(counts: Mapping[str, int]) -> tuple[str, ...]:
    """The hosts that are unlike most; of as many on either side those with fewer, since NICs go missing."""
    if len(set(counts.values())) < 2:
        return ()
    usual = max(Counter(counts.values()).items(), key=lambda each: (each[1], each[0]))[0]
    return tuple(host for host, count in counts.items() if count != usual)

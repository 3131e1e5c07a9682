"""Healthy clusters, to be spoiled one thing at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from doctor_cases.host import Half, Host, cabled, tree_of
from doctor_cases.nccl_text import HOSTS, Process, text
from doctor_cases.recorded import Tree

A, B, C, D = HOSTS
FIRST, SECOND = "first", "second"


def either(*hosts: str) -> tuple[str, ...]:
    """Where a comparison can't tell who is wrong: any of them, or all in one line."""
    return (*hosts, ", ".join(hosts))


def unit(number: int = 1, ports: tuple[int, ...] = (0,), maker: str = "nvidia", **options: Any) -> Host:
    halves = {key: options.pop(key) for key in tuple(options) if key in Half.__dataclass_fields__}
    return Host(number, maker, cabled(number, ports, **halves), **options)


def spoil(host: Host, half: str, port: int, **changes: Any) -> Host:
    functions = dict(host.functions)
    functions[half, port] = replace(functions[half, port], **changes)
    return replace(host, functions=functions)


def spoil_port(host: Host, port: int, **changes: Any) -> Host:
    return spoil(spoil(host, FIRST, port, **changes), SECOND, port, **changes)


def trees(*hosts: Host) -> dict[str, Tree]:
    return {HOSTS[host.number - 1]: tree_of(host) for host in hosts}


def pair(ports: tuple[int, ...] = (0,), **options: Any) -> tuple[Host, Host]:
    return unit(1, ports, **options), unit(2, ports, **options)


def ring() -> tuple[Host, ...]:
    """Port 0 of each unit to port 1 of the next; each cable has two subnets of its own."""
    found = []
    for number in (1, 2, 3):
        host = unit(number, (0, 1))
        for port, cable in ((0, number), (1, (number - 2) % 3 + 1)):
            for half, base in ((FIRST, 10), (SECOND, 20)):
                host = spoil(host, half, port, address=f"10.0.{base + cable}.{port + 1}/24")
        found.append(host)
    return tuple(found)


def switch(count: int, port: int = 0) -> tuple[Host, ...]:
    return tuple(unit(number, (port,)) for number in range(1, count + 1))


def logs(processes: list[Process]) -> dict[str, str]:
    """As NCCL_DEBUG_FILE=nccl.%h.%p names them."""
    return {f"nccl.{p.host}.{p.pid}.log": text(p) for p in processes}


def edited(texts: Mapping[str, str], old: str, new: str) -> dict[str, str]:
    assert any(old in t for t in texts.values()), old
    return {name: t.replace(old, new) for name, t in texts.items()}

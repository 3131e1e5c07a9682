"""Makes a lab (see netlab_nodes), all of it or nothing."""

from __future__ import annotations

import re
import sys

from netlab_access import open_access, run, start_process
from netlab_nodes import INTERFACE, SWITCH, Lab, burst_bytes, down, find

from roofprobe.errors import BadInput, RoofprobeError

MOST_NODES = 8


def up(name: str, count: int, *, rate: str | None = None, delay_seconds: float | None = None) -> Lab:
    """Makes a lab of `count` nodes, each link limited to `rate` and every frame held for `delay_seconds` on its way.

    Raises BadInput for a lab that is up already or a request that makes no sense, CannotMeasure where this system
    permits no namespaces. Whatever ends it early leaves nothing behind.
    """
    if re.fullmatch(r"[a-z0-9]{1,20}", name) is None:
        raise BadInput(f"'{name}' can't name a lab; expected up to 20 small letters and digits")
    if not 2 <= count <= MOST_NODES:
        raise BadInput(f"a lab of {count} nodes is not possible; expected 2 to {MOST_NODES}")
    if rate not in (None, "none"):
        burst_bytes(rate)
    if find(name) is not None:
        raise BadInput(f"lab {name} is up already; take it down first (netlab down), or name another (--lab)")
    try:
        lab = Lab(name, count, open_access(name))
        _join(lab, with_bridge=delay_seconds is None)
        for node in lab.nodes:
            lab.shape(node, rate=rate, delay_seconds=delay_seconds)
    except BaseException:
        down(name)
        raise
    return lab


def _join(lab: Lab, with_bridge: bool) -> None:
    run([*lab.access, "ip", "netns", "add", lab.namespace("switch")])
    if with_bridge:
        lab.ip("switch", "link", "add", "name", "bridge", "type", "bridge", "mcast_snooping", "0")
        _switch_on(lab, "switch", "bridge")
    for node in lab.nodes:
        port = f"port{node}"
        run([*lab.access, "ip", "netns", "add", lab.namespace(node)])
        peer = ("peer", "name", INTERFACE, "netns", lab.namespace(node))
        lab.ip("switch", "link", "add", "name", port, "type", "veth", *peer)
        if with_bridge:
            lab.ip("switch", "link", "set", "dev", port, "master", "bridge")
        lab.ip(node, "addr", "add", f"{lab.address(node)}/24", "dev", INTERFACE)
        for where, device in (("switch", port), (node, INTERFACE), (node, "lo")):
            _switch_on(lab, where, device)
    if not with_bridge:
        command = [*lab.inside("switch"), sys.executable, "-P", str(SWITCH), *(f"port{node}" for node in lab.nodes)]
        start_process(command, RoofprobeError("the switch in user space did not start; try without --delay"))


def _switch_on(lab: Lab, where: int | str, device: str) -> None:
    # Without an IPv6 address the kernel says nothing of its own, so the counters hold the ranks' bytes alone.
    lab.ip(where, "link", "set", "dev", device, "addrgenmode", "none")
    lab.ip(where, "link", "set", "dev", device, "up")

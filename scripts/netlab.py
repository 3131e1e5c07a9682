"""The command line of scripts/netlab: real nodes on one machine."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import os
from pathlib import Path
import re
import subprocess
import sys

sys.path.insert(0, str(Path(__file__).resolve().parent))
from netlab_build import MOST_NODES, up
from netlab_nodes import Lab, down, find
from netlab_ranks import pass_on, start_everywhere, torchrun

from roofprobe.arguments import parser, positive_int
from roofprobe.errors import OK, BadInput, run_command

NAME = "netlab"
DESCRIPTION = """Real nodes on one machine: network namespaces with an address, a host name and a shaped link each.

  scripts/netlab up 3 --rate 1gbit               node1 to node3, 10.77.0.1 to 10.77.0.3, each on eth0
  scripts/netlab run -- probes/allreduce.py -b 8 -e 16M
  scripts/netlab shape 2 --rate 100mbit          a slow link at node 2, in both directions
  scripts/netlab link 3 down                     the cable of node 3, pulled at the switch
  scripts/netlab exec 1 -- iperf3 -s             one command on one node; scripts/netlab exec 1 -- bash for a shell
  scripts/netlab status
  scripts/netlab down                            ends what runs on the nodes and leaves nothing behind
"""
EPILOG = """As root this makes namespaces directly, elsewhere inside a user namespace where the system allows one.
Status 2: bad input; 3: this system permits no namespaces.
"""
RUN = """Runs COMMAND on every node at once, prints its lines behind the node's name, and ends when all have ended, with
the status of the first node that failed. Ctrl-C ends it on all nodes.

A COMMAND whose first word ends in .py is a rank's program: torchrun starts it, one rank a node, rank 0 on node1
(static rendezvous; a node that never comes is given up after 60 s). Any other COMMAND runs as it is.

Either finds RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT, GLOO_SOCKET_IFNAME=eth0, NCCL_SOCKET_IFNAME=eth0
and OMP_NUM_THREADS=1 in its environment, so `run -- python probes/allreduce.py` joins without torchrun. Where that is
permitted it runs under the real-time scheduler, since the nodes share this machine's processors.
"""


def main(argv: Sequence[str]) -> int:
    """Runs one subcommand; returns the exit status."""
    words, command = list(argv), []
    if "--" in words:
        at = words.index("--")
        words, command = words[:at], words[at + 1 :]
    given = _parser().parse_args(words)
    return run_command(lambda: _act(given, command), NAME)


def _parser() -> argparse.ArgumentParser:
    top = parser(NAME, DESCRIPTION, EPILOG)
    actions = top.add_subparsers(dest="action", required=True, metavar="up|run|exec|shape|link|status|down")

    def action(name: str, text: str, description: str | None = None) -> argparse.ArgumentParser:
        made = actions.add_parser(
            name,
            help=text,
            description=description or text,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.add_argument("--lab", default="main", metavar="NAME", help="which lab, where there are several")
        return made

    made = action("up", "make a lab")
    made.add_argument("nodes", type=positive_int, metavar="N", help=f"nodes, 2 to {MOST_NODES}")
    made.add_argument("--rate", metavar="RATE", help="of every link in each direction, e.g. 1gbit; default: no limit")
    delay = "one way, between any two nodes, e.g. 1ms or 50us"
    made.add_argument("--delay", type=_delay, metavar="TIME", help=f"{delay}; through a switch in user space")
    made = action("run", "run a command on every node", RUN)
    made.usage = "netlab run [--lab NAME] -- COMMAND..."
    made = action("exec", "run a command on one node, on this terminal")
    made.usage = "netlab exec [--lab NAME] I -- COMMAND..."
    _add_node(made)
    made = action("shape", "change one node's link")
    _add_node(made)
    made.add_argument("--rate", metavar="RATE", help="in each direction, e.g. 100mbit; none: no limit")
    made.add_argument("--delay", type=_delay, metavar="TIME", help=f"{delay}; the longer of two nodes' holds")
    made = action("link", "pull one node's cable, or plug it in again")
    _add_node(made)
    made.add_argument("state", choices=["up", "down"])
    action("status", "show the nodes")
    action("down", "end what runs on the nodes and take the lab down")
    return top


def _add_node(action: argparse.ArgumentParser) -> None:
    action.add_argument("node", type=positive_int, metavar="I", help="the node's number, from 1")


def _delay(text: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(s|ms|us)|0", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not a delay; expected a number with s, ms or us, such as 1ms")
    return float(match[1] or 0) * {"s": 1, "ms": 1e-3, "us": 1e-6, None: 0}[match[2]]


def _act(given: argparse.Namespace, command: list[str]) -> int:
    if command and given.action not in ("run", "exec"):
        raise BadInput(f"{given.action} takes no command; leave out -- and what follows")
    if given.action == "up":
        _show(up(given.lab, given.nodes, rate=given.rate, delay_seconds=given.delay))
    elif given.action == "down":
        down(given.lab)
    elif given.action == "status":
        lab = find(given.lab)
        if lab is None:
            print(f"lab {given.lab} is not up")
        else:
            _show(lab)
    else:
        return _use(_require(given.lab), given, command)
    return OK


def _require(name: str) -> Lab:
    lab = find(name)
    if lab is None:
        raise BadInput(f"lab {name} is not up; make it with `scripts/netlab up N`")
    return lab


def _use(lab: Lab, given: argparse.Namespace, command: list[str]) -> int:
    if given.action == "link":
        lab.link(given.node, given.state == "up")
    elif given.action == "shape":
        if given.rate is None and given.delay is None:
            raise BadInput("nothing to change; give --rate, --delay or both")
        lab.shape(given.node, rate=given.rate, delay_seconds=given.delay)
    elif not command:
        raise BadInput(f"{given.action} what? put the command after --, as in `{given.action} ... -- ip addr`")
    elif given.action == "exec":
        words = lab.command(given.node, command)
        os.execvp(words[0], words)
    else:
        return _run(lab, command)
    return OK


def _run(lab: Lab, command: list[str]) -> int:
    is_program = command[0].endswith(".py")
    started = start_everywhere(
        lab,
        lambda node: torchrun(lab, node, command) if is_program else command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    return pass_on({lab.host(node): process for node, process in zip(lab.nodes, started)})


def _show(lab: Lab) -> None:
    print("\n".join(lab.describe()))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""``roofprobe doctor``: what is wrong with a machine or a link, found without load.

Without files it looks at this machine. Recordings, logs and samplings of other machines are judged instead, all
together, so that hosts are compared and a log is read beside the machine that wrote it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import os
from pathlib import Path
import socket
import sys

import msgspec

from roofprobe.arguments import duration, parser
from roofprobe.ceiling import choose_platform, platforms
from roofprobe.doctor.case import Case
from roofprobe.doctor.diagnosis import diagnose
from roofprobe.doctor.inputs import Given, nccl_variables, read_case, silent
from roofprobe.errors import FAILED, NOT_MEASURED, OK, BadInput, run_command
from roofprobe.finding import Finding

NAME = "roofprobe doctor"
DESCRIPTION = """\
Finds what is wrong with a machine or a link, without load, in seconds.

Without files it looks at this machine. With files it judges those alone, and this machine is not read; several
recordings are compared with each other. Across live nodes: torchrun … probes/doctor.py
"""
EPILOG = """\
a RECORDING is a folder that mirrors a machine's /sys, /proc and /etc, or a JSON file of `roofprobe doctor capture`.
Its host is its name without .json and without root- or telemetry- before it.

examples:
  roofprobe doctor                                              this machine
  roofprobe doctor capture root-spark1.json                     record it, for a bug report or for a comparison
  roofprobe doctor --root root-spark1.json root-spark2.json     compare two
  roofprobe doctor --nccl-log nccl.*.log                        logs of a run with NCCL_DEBUG=INFO

Exit status: 0 no fault; 1 a fault; 2 unusable input; 3 nothing to judge (an empty log), or inconclusive readings.
"""


def main(argv: list[str] | None = None) -> int:
    """Runs ``roofprobe doctor`` with `argv`; returns the exit status."""
    arguments = parse(argv)
    if arguments.action == "capture":
        return run_command(lambda: _capture(arguments), f"{NAME} capture")
    return run_command(lambda: _doctor(arguments), NAME)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line, ``capture``'s included."""
    top = parser(NAME, DESCRIPTION, EPILOG)
    add_flags(top)
    actions = top.add_subparsers(dest="action", metavar="capture")
    capture = actions.add_parser(
        "capture",
        help="record this machine into one JSON file: roofprobe doctor capture --help",
        description="Record this machine into one JSON file, which `roofprobe doctor --root FILE.json` reads on any"
        " other.\n\nBy an allow-list: links, PCI functions, memory, limits, versions, IPv4 addresses and NCCL's"
        " settings. MAC\naddresses and GUIDs become pseudonyms; serial numbers, other settings and the host's name"
        " are left out.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    capture.add_argument("file", type=Path, metavar="FILE.json", help="to be written; an existing one is not touched")
    capture.add_argument("--hostname", action="store_true", help="record the host's name too")
    return top.parse_args(argv)


def add_flags(to: argparse.ArgumentParser) -> None:
    """The flags of the doctor on one machine and across nodes."""
    for name, metavar, text in (
        ("--root", "RECORDING", "a recorded machine instead of this one; one for each host"),
        ("--before", "RECORDING", "an earlier recording for each --root, in order: counters are then differences"),
        ("--nccl-log", "FILE", "what NCCL wrote with NCCL_DEBUG=INFO; one for each process, or a whole job's output"),
        ("--telemetry", "FILE", "a recorded sampling (JSON lines); one for each host"),
        ("--measured", "FILE", "nccl-tests' JSON, or that of `roofprobe allreduce --json`: its best bus bandwidth"),
    ):
        to.add_argument(name, type=Path, nargs="+", action="extend", default=[], metavar=metavar, help=text)
    known = ", ".join(p.name for p in platforms())
    to.add_argument(
        "--platform", metavar="NAME|FILE.toml", help=f"what the machines are, instead of what they say: {known}"
    )
    to.add_argument(
        "--timeout",
        type=duration,
        default=60.0,
        metavar="TIME",
        help="under torchrun: for a host to come (default 60s)",
    )
    to.add_argument("--json", action="store_true", help='print one JSON document: {"faults": […], "facts": {HOST: …}}')


def given_files(arguments: argparse.Namespace) -> Given:
    """What `add_flags` took."""
    return Given(
        roots=tuple(arguments.root),
        before=tuple(arguments.before),
        nccl_logs=tuple(arguments.nccl_log),
        telemetry=tuple(arguments.telemetry),
        measured=tuple(arguments.measured),
        platform=None if arguments.platform is None else choose_platform(arguments.platform),
    )


def _doctor(arguments: argparse.Namespace) -> int:
    given = given_files(arguments)
    case = read_case(given)
    return report(case, silent(given, case), as_document=arguments.json)


def report(case: Case, unsaid: Sequence[str], as_document: bool) -> int:
    """Prints what was found; returns the exit status. `unsaid`: inputs that told nothing."""
    from roofprobe.doctor.output import as_json, as_text, gather_facts, verdict_of

    findings = diagnose(case)
    facts = gather_facts(case)
    verdict = verdict_of(findings, unsaid, tuple(facts))
    if as_document:
        print(as_json(findings, facts), flush=True)
        print(f"{NAME}: {verdict}", file=sys.stderr)
    else:
        print(as_text(findings, facts, verdict), end="", flush=True)
    return status_of(findings, inconclusive=bool(unsaid) or case.nothing_to_judge)


def status_of(findings: tuple[Finding, ...], inconclusive: bool) -> int:
    """Of the findings; `inconclusive` where something that was given could not be judged."""
    if any(finding.severity == "fault" for finding in findings):
        return FAILED
    inconclusive = inconclusive or any(finding.id == "reading.inconclusive" for finding in findings)
    return NOT_MEASURED if inconclusive else OK


def _capture(arguments: argparse.Namespace) -> int:
    from roofprobe.doctor.capture import capture
    from roofprobe.doctor.live_software import read_software
    from roofprobe.doctor.software import platform_of
    from roofprobe.files import write_whole
    from roofprobe.tree import this_machine

    path = arguments.file
    if not given_files(arguments).is_live:
        raise BadInput("capture records this machine; leave --root and the other files out")
    if os.path.lexists(path):
        raise BadInput(f"{path} is there already and is not overwritten; choose another name")
    tree = this_machine()
    software = read_software(tree)
    platform = platform_of(software, tree)
    software = msgspec.structs.replace(software, platform=None if platform is None else platform.name)
    write_whole(path, capture(tree, software, nccl_variables(), socket.gethostname() if arguments.hostname else None))
    print(f"recorded this machine in {path}", flush=True)
    return OK

"""``roofprobe …``: finds the command and hands over; nothing heavy is imported before that.

A probe is the same program however it is started: ``roofprobe gemv``, ``python probes/gemv.py``, or under torchrun.
The modules are named as text and imported on use, which keeps ``roofprobe --help`` at the cost of starting Python.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
import sys

from roofprobe import __doc__ as SUMMARY
from roofprobe import __version__
from roofprobe.errors import BAD_INPUT, OK

COMMANDS = {
    "run": ("roofprobe.probes.run", "the main job: every probe this machine can run, then profile and report"),
    "memory": ("roofprobe.probes.memory", "read, copy, write and triad bandwidth of the memory"),
    "gemv": ("roofprobe.probes.gemv", "decode's matrix-vector product, in bf16 and NVFP4"),
    "dequant": ("roofprobe.probes.dequant", "NVFP4 weights to bf16"),
    "sentinels": ("roofprobe.probes.sentinels", "known work before, during and after a sustained load, with telemetry"),
    "memory-kinds": (
        "roofprobe.probes.memory_kinds",
        "device, pinned, managed and pageable memory, by GPU and CPU",
    ),
    "accept": ("roofprobe.probes.accept", "is this unit or cluster healthy, and if not, what exactly is wrong?"),
    "tune": ("roofprobe.probes.tune", "find the fastest kernel configurations and keep them in a profile"),
    "allreduce": ("roofprobe.probes.allreduce", "all-reduce time and bandwidth, in nccl-tests' table"),
    "collectives": ("roofprobe.probes.collectives", "all-gather, reduce-scatter, broadcast and others, likewise"),
    "launch": ("roofprobe.probes.launch", "start a probe on several hosts through ssh"),
    "doctor": ("roofprobe.probes.doctor", "what is wrong with a machine, a link or a job's log, found without load"),
    "profile": ("roofprobe.profile_command", "show, validate or export a tuning profile"),
    "predict": (
        "roofprobe.predict_command",
        "decode rates of a model on 1 to 4 units, from a profile or given numbers",
    ),
    "claims": ("roofprobe.claims_command", "published figures against what memory, link and arithmetic allow"),
    "compare": ("roofprobe.comparison.command", "two runs, case by case: what became slower?"),
    "calibrate": ("roofprobe.probes.calibrate", "how much this machine differs from itself, which compare goes by"),
    "report": ("roofprobe.report_command", "draw a run folder's report.html again"),
}


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return OK if arguments else BAD_INPUT
    if arguments[0] == "--version":
        return _version()
    name = arguments[0]
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else "see roofprobe --help"
        kind = "flag" if name.startswith("-") else "command"
        print(f"roofprobe: no such {kind}: '{name}'; {hint}", file=sys.stderr)
        return BAD_INPUT
    module = import_module(COMMANDS[name][0])
    status: int = module.main(arguments[1:])
    return status


def _help() -> str:
    lines = [f"roofprobe {__version__}: {SUMMARY}", "", "usage: roofprobe COMMAND [FLAG ...]", ""]
    lines += [f"  {name:<12} {text}" for name, (_, text) in COMMANDS.items()]
    lines += [
        "",
        "  --version   versions of roofprobe and of what it found",
        "",
        "`roofprobe COMMAND --help` has a command's flags. Exit status: 0 all is well; 1 something is wrong;",
        "2 unusable input; 3 something required could not be measured.",
    ]
    return "\n".join(lines)


def _version() -> int:
    from roofprobe.environment import read_environment

    found = read_environment()
    print(f"roofprobe {__version__}")
    for name in ("python", "torch", "triton", "numba", "cupy", "cuda", "driver", "nccl"):
        print(f"  {name:<8}{getattr(found, name) or 'none'}")
    return OK


if __name__ == "__main__":
    raise SystemExit(main())

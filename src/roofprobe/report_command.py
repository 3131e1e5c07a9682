"""``roofprobe report DIR``: draws a run folder's report.html from its measurements again."""

from __future__ import annotations

from pathlib import Path

from roofprobe.arguments import parser
from roofprobe.errors import OK, run_command


def main(argv: list[str] | None = None) -> int:
    """Runs ``roofprobe report`` with `argv`; returns the exit status."""
    top = parser("roofprobe report", "Draw report.html from a run folder's measurements.jsonl.")
    top.add_argument("directory", type=Path, help="a run folder, as `roofprobe run --out` made it")
    arguments = top.parse_args(argv)

    def command() -> int:
        from roofprobe.report import write_report

        print(write_report(arguments.directory))
        return OK

    return run_command(command, "roofprobe report")

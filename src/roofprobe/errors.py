"""The errors that people see: one line each, and the exit status that goes with it.

Every command ends with one of four statuses: 0 all is well; 1 something measured is wrong (a failed check, a wrong
result, a rank that died or hung); 2 the request can't be carried out as given; 3 something that was required could
not be measured, and nothing failed.
"""

from __future__ import annotations

from collections.abc import Callable
import os
import signal
import sys

OK, FAILED, BAD_INPUT, NOT_MEASURED = 0, 1, 2, 3


class RoofprobeError(Exception):
    """A failure that is reported as one line: what is wrong, what was found, what was expected, what to do next."""

    exit_status = FAILED


class BadInput(RoofprobeError):
    """The request can't be carried out as given: a flag, a size, a path, a file's contents."""

    exit_status = BAD_INPUT


class CannotMeasure(RoofprobeError):
    """Something that was required could not be measured on this machine."""

    exit_status = NOT_MEASURED


def run_command(command: Callable[[], int], name: str) -> int:
    """Runs `command` and turns a failure into one line on stderr and its exit status.

    Ctrl-C and SIGTERM both end as interrupted. A broken pipe (``roofprobe … | head``) ends quietly: the reader has
    seen enough.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return command()
    except RoofprobeError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print(f"{name}: interrupted; what was to be measured was not", file=sys.stderr)
        return NOT_MEASURED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK

"""torchrun without its traceback, and with the status of the rank that failed first instead of always 1."""

from __future__ import annotations

import sys

from roofprobe.errors import FAILED, NOT_MEASURED, OK


def main() -> int:
    """Runs torchrun with this process's arguments; what the ranks printed says why they failed."""
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        run.main(sys.argv[1:])
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return failure.exitcode if OK < failure.exitcode <= NOT_MEASURED else FAILED
    except SignalException:
        return FAILED
    return OK


if __name__ == "__main__":
    raise SystemExit(main())

"""torchrun without its traceback, and with the status of the rank that failed first instead of always 1."""

from __future__ import annotations

import sys

from roofprobe.collectives.process_group import first_line
from roofprobe.errors import FAILED, NOT_MEASURED, OK


def main() -> int:
    """Runs torchrun with this process's arguments; what the ranks printed says why they failed."""
    from torch.distributed import DistError, run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        run.main(sys.argv[1:])
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return failure.exitcode if OK < failure.exitcode <= NOT_MEASURED else FAILED
    except SignalException:
        return FAILED
    except DistError as error:
        what = f"roofprobe launch: the hosts' torchruns did not meet: {first_line(error)}"
        print(f"{what}; is the port free (--port), and open between the hosts?", file=sys.stderr)
        return FAILED
    return OK


if __name__ == "__main__":
    raise SystemExit(main())

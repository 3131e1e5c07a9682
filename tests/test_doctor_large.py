"""Large inputs are read in bounded memory."""

from pathlib import Path
import subprocess
import sys

from doctor_cases.case import run
from doctor_cases.clusters import logs
from doctor_cases.nccl_text import cluster


def test_a_line_of_20_megabytes(tmp_path: Path) -> None:
    file = tmp_path / "line.log"
    file.write_bytes(b"spark-a:1:2 [0] NCCL INFO " + b"x" * 20_000_000)
    for flag in ("--nccl-log", "--telemetry"):
        assert run([flag, str(file)]).status in (2, 3)


MEBIBYTE = 1 << 20


def _peak(*words: object) -> tuple[int, int]:
    """Status and peak memory in bytes of a process of its own."""
    code = """
import resource, sys
from roofprobe.cli import main
status = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, file=sys.stderr)
sys.exit(status)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor", *map(str, words), "--json"], capture_output=True, text=True
    )
    return done.returncode, int(done.stderr.split()[-1])


def big_log(file: Path, size: int) -> Path:
    """A healthy pair's log with `size` bytes of the lines that NCCL_DEBUG_SUBSYS=ALL writes for each collective."""
    first, second = logs(cluster(2)).values()
    with file.open("w") as out:
        out.write(first)
        written, count = 0, 0
        while written < size:
            line = (
                f"spark-a:1234:1260 [0] NCCL INFO AllReduce: opCount {count:x} sendbuff 0x{count * 4096:x} recvbuff "
                f"0x{count * 8192:x} count {count} datatype 7 op 0 root 0 comm 0xaaab1c005e10 [nranks=2]\n"
            )
            block = line * 500
            written += out.write(block)
            count += 1
        out.write(second)
    return file


def test_a_large_log_is_streamed(tmp_path: Path) -> None:
    """50 MB take no more memory than 1 MB, apart from what the allocator rounds."""
    status, small = _peak("--nccl-log", big_log(tmp_path / "small.log", MEBIBYTE))
    assert status == 0
    status, large = _peak("--nccl-log", big_log(tmp_path / "large.log", 50 * MEBIBYTE))
    assert status == 0
    assert large - small < 12 * MEBIBYTE

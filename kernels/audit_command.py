"""`scripts/sass_audit`: compiles the selection in parallel, audits it, and writes the page of docs/sass-audit.md."""

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import cache
import json
import multiprocessing
import os
from pathlib import Path
import sys

import triton
from triton.errors import TritonError

from roofprobe.arguments import parser
from roofprobe.kernels.audit import Row, audit
from roofprobe.kernels.audit_page import page, table, targets
from roofprobe.kernels.audit_selection import case_key, everything, selection, subset
from roofprobe.kernels.compile_only import KNOWN_CC, Case, compile_case
from roofprobe.kernels.gemv_kernel import gemv_kernel

PAGE = Path("docs") / "sass-audit.md"
PAGE_CC = (121, 90)
OK, FOUND, BAD_FLAGS = 0, 1, 2


@cache
def cases(which: str, cc: int) -> tuple[Case, ...]:
    """`all`, `subset` or the `selection` between them."""
    return tuple({"all": everything, "selection": selection, "subset": subset}[which](cc))


def audit_one(which: str, index: int, cc: int, keep: Path | None) -> Row | str:
    """The row of one case, or the sentence that says why there is none. Runs in a process of the pool."""
    case = cases(which, cc)[index]
    try:
        compiled = compile_case(case, cc)
    except (RuntimeError, TritonError) as error:
        while error.__cause__ is not None:  # the errors above the last only repeat the source of the calls around it
            error = error.__cause__
        return f"{case_key(case)}: cc {cc}: {str(error).strip().splitlines()[-1]}"
    row = audit(compiled)
    if keep:
        (keep / row.file_name).write_bytes(compiled.cubin)
    return row


def audit_all(which: str, ccs: list[int], keep: Path | None, jobs: int) -> Iterator[Row | str]:
    """Every case for every compute capability, in the order of the selection, compiled in `jobs` processes."""
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        futures = [
            pool.submit(audit_one, which, index, cc, keep) for cc in ccs for index in range(len(cases(which, cc)))
        ]
        for future in futures:
            yield future.result()


def main(argv: list[str] | None = None) -> int:
    """The exit status: 0 nothing found, 1 a finding or a kernel that does not compile, 2 bad flags."""
    options = _arguments(argv)
    if type(gemv_kernel).__name__ != "JITFunction":
        print("sass_audit: TRITON_INTERPRET=1 leaves kernels uncompiled; unset it", file=sys.stderr)
        return BAD_FLAGS
    rows, problems = [], []
    total = sum(len(cases(options.which, cc)) for cc in options.cc)
    for done in audit_all(options.which, options.cc, options.keep, options.jobs):
        if isinstance(done, str):
            problems.append(done)
            continue
        rows.append(done)
        problems += [f"{done.name} {done.configuration}: cc {done.cc}: {finding}" for finding in done.findings]
        if not options.json and sys.stderr.isatty():
            print(f"\r{len(rows)} of {total}", end="", file=sys.stderr)
    if options.write_docs:
        PAGE.write_text(page(rows, PAGE.read_text() if PAGE.exists() else "", triton.__version__))
    if options.json:
        document = {"triton": triton.__version__, "rows": [asdict(row) for row in rows]}
        document |= {"targets": targets(rows), "findings": problems}
        print(json.dumps(document, indent=1))
    else:
        print(table(rows))
        print(*targets(rows), f"{len(rows)} kernels, {len(problems)} findings", sep="\n")
    for problem in problems:
        print(problem, file=sys.stderr)
    return FOUND if problems else OK


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    command = parser("sass_audit", "Compile the Triton kernels without a GPU and check their machine code.")
    command.add_argument(
        "--cc", type=int, action="append", choices=KNOWN_CC, help="compute capability, repeatable (default: 121 and 90)"
    )
    command.add_argument("--json", action="store_true", help="one JSON document on stdout")
    command.add_argument("--keep", type=Path, metavar="DIR", help="leave every OP-FORMAT-CC-CONFIG.cubin in DIR")
    which = command.add_mutually_exclusive_group()
    which.add_argument("--all", dest="which", action="store_const", const="all", help="the whole tuning space")
    which.add_argument("--subset", dest="which", action="store_const", const="subset", help="the few that CI looks at")
    command.add_argument("--write-docs", action="store_true", help=f"renew the table in {PAGE}")
    cores = len(os.sched_getaffinity(0))
    command.add_argument("--jobs", type=int, default=cores, help="processes (default: %(default)s, one a core)")
    command.set_defaults(which="selection")
    options = command.parse_args(argv)
    options.cc = list(dict.fromkeys(options.cc or PAGE_CC))
    if options.jobs < 1:
        command.error(f"--jobs: expected at least 1, got {options.jobs}")
    if options.write_docs and (options.which != "selection" or options.cc != list(PAGE_CC)):
        command.error("--write-docs: the page has the selection for --cc 121 --cc 90; leave out --all and --subset")
    if options.keep:
        try:
            options.keep.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            command.error(f"--keep: can't make the folder {options.keep}: {error.strerror}")
    return options


if __name__ == "__main__":
    raise SystemExit(main())

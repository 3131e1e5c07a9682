"""Compiles kernels for `ptx_kernel.py`: one JSON job a line on stdin, one answer a line on stdout.

A process of its own, since the tests' process may have TRITON_INTERPRET=1, under which nothing compiles. A job names
the module and kernel, the arguments' types, the constants (a dtype as its name), warps and compute capability; the
answer has the PTX, or the error.
"""

import importlib
import json
import sys
from typing import Any

import triton.language as tl

from roofprobe.kernels.compile_only import Case, compile_case

DTYPES = {str(dtype): dtype for dtype in (tl.float32, tl.float16, tl.bfloat16)}


def answer(job: dict[str, Any]) -> dict[str, str]:
    """The PTX of a job."""
    kernel = getattr(importlib.import_module(job["module"]), job["kernel"])
    constants = {name: DTYPES[value] if name == "dtype" else value for name, value in job["constants"].items()}
    case = Case(job["kernel"], kernel, job["signature"], constants, job["warps"])
    return {"ptx": compile_case(case, job["cc"]).ptx}


if __name__ == "__main__":
    for line in sys.stdin:
        try:
            result = answer(json.loads(line))
        except Exception as error:  # noqa: BLE001 - whatever it is, the tests' process says so
            result = {"error": repr(error)}
        print(json.dumps(result), flush=True)

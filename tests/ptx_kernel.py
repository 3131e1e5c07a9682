"""A stand-in for a Triton kernel that compiles for a GPU which is not here and runs the PTX in `ptx_machine.py`.

    with compiler() as compile_job:
        monkeypatch.setattr(gemv_triton, "gemv_kernel", PtxKernel(gemv_triton.gemv_kernel, 90, compile_job))
        gemv(weight, x, config=GemvConfig(decode="e4m3"), backend="triton")

So the package's own launch code runs: arguments, constants and grid are the ones that a GPU would get.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import json
import os
from pathlib import Path
import subprocess
import sys
from typing import Any

from ptx_machine import Machine, run
from ptx_opcodes import TensorCoreSum, rounded_sum
import torch

Compiler = Callable[[dict[str, Any]], str]
POINTERS = {
    torch.uint8: "*u8",
    torch.int16: "*i16",
    torch.int32: "*i32",
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
}


@contextmanager
def compiler() -> Iterator[Compiler]:
    """A function from jobs (`ptx_compile.py`) to PTX, which remembers its answers. Raises RuntimeError for an error."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, str(Path(__file__).with_name("ptx_compile.py"))]
    done: dict[str, str] = {}
    pipe, none = subprocess.PIPE, subprocess.DEVNULL  # stderr: nanobind's leaks at exit; errors are answers
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=none, text=True) as worker:
        assert worker.stdin is not None and worker.stdout is not None
        asked, told = worker.stdin, worker.stdout

        def compile_job(job: dict[str, Any]) -> str:
            line = json.dumps(job)
            if line not in done:
                print(line, file=asked, flush=True)
                answer = json.loads(told.readline())
                if "error" in answer:
                    raise RuntimeError(answer["error"])
                done[line] = answer["ptx"]
            return done[line]

        yield compile_job
        asked.close()


class PtxKernel:
    """`kernel`, compiled for compute capability `cc`; a launch runs on the CPU and writes its tensors back."""

    def __init__(
        self, kernel: Any, cc: int, compile_job: Compiler, tensor_core_sum: TensorCoreSum = rounded_sum
    ) -> None:
        self.kernel, self.cc = kernel, cc
        self.compile_job, self.tensor_core_sum = compile_job, tensor_core_sum
        self.launches = 0

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def launch(
            *values: Any, num_warps: int, enable_fp_fusion: bool, maxnreg: int | None = None, **constants: Any
        ) -> None:
            assert not enable_fp_fusion and (maxnreg is None or maxnreg > 0)  # neither changes what is computed
            self.launches += 1
            names = self.kernel.fn.__code__.co_varnames
            signature = {
                name: POINTERS[value.dtype] if isinstance(value, torch.Tensor) else "i32"
                for name, value in zip(names, values)
            }
            job = {
                "module": self.kernel.fn.__module__,
                "kernel": self.kernel.fn.__name__,
                "signature": signature,
                "constants": {k: str(v) if k == "dtype" else v for k, v in constants.items()},
                "warps": num_warps,
                "cc": self.cc,
            }
            machine = Machine()
            bits = {t.data_ptr(): _bytes(t) for t in values if isinstance(t, torch.Tensor)}
            addresses = {pointer: machine.place(data.numpy()) for pointer, data in bits.items()}
            arguments = [addresses[v.data_ptr()] if isinstance(v, torch.Tensor) else v for v in values]
            x, y, z = (*grid, 1, 1)[:3]
            run(self.compile_job(job), machine, arguments, (x, y, z), self.tensor_core_sum)
            for tensor in values:
                if isinstance(tensor, torch.Tensor):
                    found = torch.from_numpy(machine.read(addresses[tensor.data_ptr()]))
                    tensor.copy_(found.view(tensor.dtype).view(tensor.shape))

        return launch


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.cpu().contiguous().view(-1).view(torch.uint8)

"""A CPU that plays CUDA GPUs, for every Python that finds this first on its path: a GPU's code runs from end to end.

Tensors are the CPU's and say that they are a GPU's, kernels run in Triton's interpreter, a graph runs again what was
captured, and NCCL is gloo. So results are right or wrong as on a GPU, and no time means anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial, wraps
import os
import re
from threading import Thread
import time
from types import SimpleNamespace
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"

import torch
import torch.cuda.nccl
import torch.distributed as dist
from torch.overrides import TorchFunctionMode
from triton.runtime.interpreter import GridExecutor

from roofprobe import device_timing
from roofprobe.probes import sides

CHIPS = [
    SimpleNamespace(
        name="NVIDIA H200",
        major=8,  # a chip without PTX instructions of its own for FP4: the interpreter knows none
        minor=0,
        multi_processor_count=4,
        L2_cache_size=4 << 10,
        total_memory=8 << 30,
        is_integrated=False,
        uuid=f"GPU-{index}",
        pci_domain_id=0,
        pci_bus_id=index + 1,
        pci_device_id=0,
    )
    for index in range(int(os.environ.get("PLAYED_GPUS", "1")))
]
capturing: list[list[Callable[[], object]]] = []
"""The graph that is being captured, if any, as the calls that it consists of."""


class OnCuda(TorchFunctionMode):
    """Every tensor says that it is on the first GPU; what is asked for on any is made on the CPU."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func == torch.Tensor.is_cuda.__get__:
            return True
        if func == torch.Tensor.device.__get__:
            return torch.device("cuda", 0)
        if func is torch.device:
            return func(*args, **(kwargs or {}))
        call = partial(func, *map(_on_cpu, args), **{name: _on_cpu(each) for name, each in (kwargs or {}).items()})
        if capturing and ("out" in (kwargs or {}) or re.search("[a-z]_$", getattr(func, "__name__", ""))):
            capturing[-1].append(call)  # what writes where the graph's next call may read
        return call()


def _on_cpu(argument: Any) -> Any:
    if isinstance(argument, torch.device) and argument.type == "cuda":
        return torch.device("cpu")
    return "cpu" if isinstance(argument, str) and argument.startswith("cuda") else argument


def captured(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, whose calls are part of a graph; what it calls itself is not, once more."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        graph = capturing.pop() if capturing else None
        try:
            return function(*args, **kwargs)
        finally:
            if graph is not None:
                graph.append(partial(function, *args, **kwargs))
                capturing.append(graph)

    return call


class Graph:
    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []

    def replay(self) -> None:
        for call in self.calls:
            call()


@contextmanager
def capture(graph: Graph, capture_error_mode: str = "global") -> Iterator[None]:
    assert capture_error_mode in ("global", "thread_local", "relaxed")
    capturing.append(graph.calls)
    try:
        yield
    finally:
        capturing.pop()


class Event:
    """On the host's clock. Asked at once, a GPU that works off a queue has not reached it yet."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False) -> None:  # noqa: ARG002 - torch's
        self.is_timed = enable_timing

    def record(self) -> None:
        self.at = time.perf_counter()

    def query(self) -> bool:
        return False

    def synchronize(self) -> None: ...

    def elapsed_time(self, end: Event) -> float:
        assert self.is_timed and end.is_timed
        return (end.at - self.at) * 1e3


class Stream:
    cuda_stream = 0

    def synchronize(self) -> None: ...


def _index(device: Any = 0) -> int:
    return device if isinstance(device, int) else torch.device(device).index or 0


def _init_process_group(backend: str, device_id: torch.device | None = None, **options: Any) -> None:
    assert backend == "gloo" or device_id is not None
    join("gloo", **options)


def _run(thread: Thread) -> None:
    with OnCuda():
        run(thread)


for name, value in {
    "is_available": lambda: True,
    "device_count": lambda: len(CHIPS),
    "get_device_properties": lambda device=0: CHIPS[_index(device)],
    "get_device_capability": lambda _=0: (CHIPS[0].major, CHIPS[0].minor),
    "get_device_name": lambda _=0: CHIPS[0].name,
    "mem_get_info": lambda _=0: (CHIPS[0].total_memory, CHIPS[0].total_memory),
    "current_stream": lambda _=None: Stream(),
    "is_current_stream_capturing": lambda: bool(capturing),
    "set_device": lambda _: None,
    "synchronize": lambda _=None: None,
    "_sleep": lambda _: None,
    "device": nullcontext,
    "stream": nullcontext,
    "graph": capture,
    "CUDAGraph": Graph,
    "Event": Event,
    "Stream": Stream,
}.items():
    setattr(torch.cuda, name, value)
torch.cuda.nccl.version = lambda: (2, 28, 9)
GridExecutor.__call__ = captured(GridExecutor.__call__)
generator = torch.Generator
torch.Generator = lambda device="cpu": generator(_on_cpu(device))
join, run = dist.init_process_group, Thread.run
dist.init_process_group = _init_process_group
dist.is_nccl_available = lambda: True
dist.all_reduce = captured(dist.all_reduce)
Thread.run = _run
# An array that is large enough to outgrow that little cache keeps the interpreter busy for 10 ms, one of a MiB for 200.
sides.ROW_BYTES = 4 << 10
device_timing.LAUNCHES_TO_ESTIMATE = 1
OnCuda().__enter__()

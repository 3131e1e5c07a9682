"""Samples a GPU through NVML in the background, and writes what it says as `telemetry`'s lines while work runs.

Every call to NVML is caught by itself: GB10's NVML answers some of them with NOT_SUPPORTED, and such a field is absent
from the line. Without NVML, or without a GPU, there are no samples and `Sampler.problem` says why. One thread writes
samples and sentinels' results, each line on the disk before the next: a machine that hangs under load leaves the last
moment before it did. A thread is enough: calls to NVML release Python's lock, and a sample costs a few hundred
microseconds ten times a second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
import time
from typing import Any, Self

import msgspec

from roofprobe.errors import BadInput, RoofprobeError
from roofprobe.json_lines import append
from roofprobe.telemetry import Sample, SentinelResult

INTERVAL_SECONDS = 0.1
MAX_SAMPLES = 1_000_000
"""28 hours at ten a second; then sampling ends and says so."""
KEPT_IN_MEMORY = 100_000
PATIENCE_SECONDS = 2.0
"""How long the end waits for a call to NVML that does not return, as with a driver that hangs."""

REASONS = {
    1 << 0: "gpu_idle",
    1 << 1: "applications_clocks_setting",
    1 << 2: "sw_power_cap",
    1 << 3: "hw_slowdown",
    1 << 4: "sync_boost",
    1 << 5: "sw_thermal_slowdown",
    1 << 6: "hw_thermal_slowdown",
    1 << 7: "hw_power_brake_slowdown",
    1 << 8: "display_clock_setting",
    1 << 9: "board_limit",
    1 << 10: "reliability",
}
"""nvmlClocksEventReason* and, before driver 535, nvmlClocksThrottleReason*: the same bits. Source: nvml.h."""


def reason_names(mask: int) -> tuple[str, ...]:
    """The reasons of a bit mask in lower case, lowest bit first; a bit without a name is ``bit_N``."""
    bits = (bit for bit in range(64) if mask >> bit & 1)
    return tuple(REASONS.get(1 << bit, f"bit_{bit}") for bit in bits)


class Sampler:
    """Samples one GPU from `with` until its end, into the file `path`.

    `uuid`: NVML's name for the GPU (``GPU-…``), so that CUDA_VISIBLE_DEVICES can't make it sample another; None samples
    none and writes results alone. `nvml`: the module, pynvml where None. Raises BadInput where the file can't be made.
    """

    def __init__(
        self, path: Path, uuid: str | None, interval: float = INTERVAL_SECONDS, nvml: Any | None = None
    ) -> None:
        self.problem: str | None = None
        """Why there are no samples, or no more; None while all is well."""
        self.samples: deque[Sample] = deque(maxlen=KEPT_IN_MEMORY)
        """The latest."""
        self._path = path
        self._uuid = uuid
        self._interval = interval
        self._nvml = nvml
        self._results: SimpleQueue[SentinelResult] = SimpleQueue()
        self._enough = Event()
        self._stop = Event()
        self._writing = Lock()
        self._began = time.perf_counter()
        try:
            self._file = open(path, "ab")  # noqa: SIM115 - closed by __exit__
        except OSError as error:
            raise BadInput(f"can't write {path}: {error.strerror}; choose another folder with --out") from None
        self._thread = Thread(target=self._run, name="telemetry", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_SECONDS)
        if self._thread.is_alive():
            self.problem = f"NVML has not returned for {PATIENCE_SECONDS:g} s: the driver hangs"
        self._write_results()
        with self._writing:
            self._file.close()

    def now(self) -> float:
        """Seconds since sampling began: every line's ``t_s``."""
        return time.perf_counter() - self._began

    def end_samples(self) -> None:
        """No more samples, as the GPU's work is done; results are still taken."""
        self._enough.set()

    def result(self, result: SentinelResult) -> None:
        """Adds a sentinel's result, whose ``t_s`` is of `now`."""
        self._results.put(result)

    def sm_clocks_mhz(self, start: float, end: float) -> tuple[float, ...]:
        """The SM clocks sampled between two moments of `now`."""
        return tuple(
            s.sm_clock_mhz for s in tuple(self.samples) if start <= s.t_s <= end and s.sm_clock_mhz is not None
        )

    def _run(self) -> None:
        taken = 0
        device = self._open_device()
        while not self._stop.is_set():
            if device is not None and not self._enough.is_set():
                self._take(device)
                taken += 1
                if taken == MAX_SAMPLES:
                    self.problem = f"stopped after {MAX_SAMPLES} samples"
                    device = None
            self._write_results()
            self._stop.wait(self._interval)
        if self._nvml is not None:
            _caught(self._nvml.nvmlShutdown)

    def _open_device(self) -> Any | None:
        if self._uuid is None:
            self.problem = "no GPU to sample"
            return None
        try:
            if self._nvml is None:
                import pynvml

                self._nvml = pynvml
            self._nvml.nvmlInit()
            return self._nvml.nvmlDeviceGetHandleByUUID(self._uuid)
        except Exception as error:  # noqa: BLE001 - ImportError, NVMLError, or whatever a broken driver's binding raises
            self.problem = f"no NVML: {_told(error)}"
            return None

    def _take(self, device: Any) -> None:
        t_s = self.now()
        found: dict[str, Any] = {}
        failure: Exception | None = None
        for name, read in READERS.items():
            value, error = _caught(read, self._nvml, device)
            failure = failure or error
            if error is None and value is not None and _plausible(name, value):
                found[name] = value
        if found:
            sample = Sample(t_s=t_s, **found)
            self.samples.append(sample)
            self._write(sample)
        elif self.problem is None:
            self.problem = f"NVML told nothing from {t_s:.1f} s on: {_told(failure)}"

    def _write_results(self) -> None:
        while True:
            try:
                self._write(self._results.get_nowait())
            except Empty:
                return

    def _write(self, line: Sample | SentinelResult) -> None:
        with self._writing:
            if self._file.closed:  # by an end that did not wait for NVML any longer
                return
            try:
                append(self._file, self._path, line)
            except RoofprobeError as error:
                self.problem = str(error)


def _caught(call: Callable[..., Any], *arguments: Any) -> tuple[Any, Exception | None]:
    try:
        return call(*arguments), None
    except Exception as error:  # noqa: BLE001 - NVML's errors have a type each, and old bindings lack functions
        return None, error


def _told(error: Exception | None) -> str:
    return "no call answered" if error is None else " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _plausible(name: str, value: object) -> bool:
    """Whether a line may say so: drivers answer 0xffffffff and the like for what they don't know."""
    try:
        msgspec.convert({"t_s": 0.0, name: value}, Sample)
    except msgspec.ValidationError:
        return False
    return True


def _reasons(nvml: Any, device: Any) -> tuple[str, ...]:
    try:
        mask = nvml.nvmlDeviceGetCurrentClocksEventReasons(device)
    except Exception:  # noqa: BLE001 - a binding (AttributeError) or driver from before the function had this name
        mask = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(device)
    return reason_names(mask)


def _p_state(nvml: Any, device: Any) -> str | None:
    state = nvml.nvmlDeviceGetPerformanceState(device)
    return f"P{state}" if 0 <= state <= 15 else None  # 32 is NVML's "unknown"


READERS: dict[str, Callable[[Any, Any], Any]] = {
    "utilization_pct": lambda nvml, device: nvml.nvmlDeviceGetUtilizationRates(device).gpu,
    "sm_clock_mhz": lambda nvml, device: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM),
    "power_w": lambda nvml, device: nvml.nvmlDeviceGetPowerUsage(device) / 1000,
    "temperature_c": lambda nvml, device: nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU),
    "p_state": _p_state,
    "reasons": _reasons,
}
"""Field of a sample -> the call that tells it."""

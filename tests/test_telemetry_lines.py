"""Samplings' lines: any bytes are a sampling or one clear error, and no rule fails over what was read."""

from collections.abc import Callable
import json
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import pytest
from sampling_cases import SPARK
from samplings import RATES, Line, healthy, read, result, written

from roofprobe.doctor.sampling_rules import judge_sampling
from roofprobe.errors import BadInput
from roofprobe.telemetry import Sampling, read_sampling


def bytes_of(folder: Path, content: bytes) -> Sampling:
    path = folder / "telemetry-x.jsonl"
    path.write_bytes(content)
    return read_sampling(path, "x")


VALID = b"".join(json.dumps(line).encode() + b"\n" for line in healthy(10, sentinel_every=2))


FIELDS = [*healthy(1)[0], "sentinel", "gb_per_s", "tflop_per_s", "side"]
VALUES = st.one_of(
    st.none(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.lists(st.text(max_size=8)),
    st.sampled_from([*RATES, "P0"]),
)
CONTENT = st.one_of(
    st.binary(max_size=400),
    st.integers(0, len(VALID)).map(lambda end: VALID[:end]),
    st.tuples(st.integers(0, len(VALID)), st.binary(max_size=20)).map(
        lambda junk: VALID[: junk[0]] + junk[1] + VALID[junk[0] :]
    ),
    st.lists(st.dictionaries(st.sampled_from(FIELDS), VALUES)).map(
        lambda lines: "".join(json.dumps(line) + "\n" for line in lines).encode()
    ),
)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(content=CONTENT)
def test_any_bytes_are_a_sampling_or_one_clear_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    try:
        sampling = bytes_of(tmp_path_factory.mktemp("fuzz"), content)
    except BadInput as error:
        told = str(error)
        assert "\n" not in told
        assert "telemetry-x.jsonl" in told
        return
    for platform in (SPARK, None):
        judge_sampling(sampling, platform)


numbers = st.floats(0, 1e9, allow_nan=False)
samples = st.fixed_dictionaries(
    {"t_s": numbers},
    optional={
        "utilization_pct": st.floats(0, 100),
        "sm_clock_mhz": st.floats(0, 1e5),
        "temperature_c": st.floats(-100, 300),
        "reasons": st.lists(st.sampled_from(["gpu_idle", "hw_slowdown", "sw_thermal_slowdown"]), max_size=2),
    },
)
results = st.builds(result, numbers, st.sampled_from([*RATES]), numbers)


@settings(deadline=None, max_examples=100)
@given(lines=st.lists(st.one_of(samples, results), max_size=40))
def test_no_rule_fails_over_any_sampling(tmp_path_factory: pytest.TempPathFactory, lines: list[Line]) -> None:
    """Zero rates, equal times and gaps of years included; where nothing was busy, that is said."""
    for platform in (SPARK, None):
        findings = judge_sampling(read(tmp_path_factory.mktemp("any"), lines), platform)
        busy = [line for line in lines if line.get("utilization_pct", 0) >= 10]
        told = any("utilization_pct" in line for line in lines)
        if told and len(busy) < 3:
            assert findings


REFUSED: dict[str, tuple[bytes, str]] = {
    "no time": (b'{"utilization_pct": 1}\n', "line 1: .*t_s"),
    "an unknown sentinel": (b'{"t_s": 1, "sentinel": "axpy", "gb_per_s": 2}\n', "line 1: .*axpy"),
    "an unknown sentinel, its name escaped": (b'{"t_s": 1, "\\u0073entinel": "axpy", "gb_per_s": 2}\n', "axpy"),
    "a matmul in GB/s": (b'{"t_s": 1, "sentinel": "matmul", "gb_per_s": 2}\n', "expected tflop_per_s"),
    "a copy in TFLOP/s": (b'{"t_s": 1, "sentinel": "copy", "tflop_per_s": 2}\n', "expected gb_per_s"),
    "both rates": (b'{"t_s": 1, "sentinel": "copy", "tflop_per_s": 2, "gb_per_s": 2}\n', "no other rate"),
    "no rate": (b'{"t_s": 1, "sentinel": "copy"}\n', "expected gb_per_s"),
    "more than all": (b'{"t_s": 1, "utilization_pct": 101}\n', "line 1: .*<= 100"),
    "a torn line in the middle": (b'{"t_s": 1}\n{"t_s": \n{"t_s": 3}\n', "line 2"),
    "a torn line alone": (b'{"t_s": 1, "util', "line 1"),
    "a long line": (b'{"t_s": 1, "x": "' + b"x" * 9000 + b'"}\n', "line 1 is longer than 8192 bytes"),
    "no JSON": (b"\x7fELF\x00\x01\n", "line 1"),
    "deep nesting": (b'{"t_s": 1, "x": ' + b"[" * 4000 + b"]" * 4000 + b"}\n", "line 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_line_that_is_neither_kind_is_refused(tmp_path: Path, case: str) -> None:
    content, told = REFUSED[case]
    with pytest.raises(BadInput, match=told):
        bytes_of(tmp_path, content)


@pytest.mark.parametrize("change", [lambda lines: lines[::-1], lambda lines: [*lines[50:], *lines[:50]]])
def test_lines_may_come_in_any_order(tmp_path: Path, change: Callable[[list[Line]], list[Line]]) -> None:
    lines = healthy()
    assert read(tmp_path, change(lines)) == read(tmp_path, lines)


def test_what_a_crash_left_is_read_up_to_its_torn_last_line(tmp_path: Path) -> None:
    path = written(tmp_path, lines := healthy())
    path.write_bytes(path.read_bytes()[:-9])
    whole = read_sampling(path, "unit1")
    assert len(whole.samples) + len(whole.sentinels) == len(lines) - 1


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nowhere"):
        read_sampling(tmp_path / "nowhere", "x")

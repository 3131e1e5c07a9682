"""Sizes and counts as nccl-tests takes them, and errors in one line."""

import argparse

from hypothesis import given
from hypothesis import strategies as st
import pytest

from roofprobe.arguments import duration, parser, positive_int, size, size_text


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("8", 8),
        ("64K", 65536),
        ("64k", 65536),
        ("1M", 1 << 20),
        ("2G", 1 << 31),
        ("1GiB", 1 << 30),
        ("4KB", 4096),
        ("0", 0),
    ],
)
def test_size(text: str, n_bytes: int) -> None:
    assert size(text) == n_bytes


@pytest.mark.parametrize("text", ["12Q", "", "K", "-8", "1.5M", "8 M M", "1e6", "٣", "0x10"])
def test_not_a_size(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="not a size"):
        size(text)


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.0", "", "²"])
def test_not_a_count(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        positive_int(text)


@pytest.mark.parametrize(("text", "seconds"), [("30", 30), ("2.5s", 2.5), ("35m", 2100), ("1h", 3600)])
def test_duration(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "-3", "1d", "nan", "inf"])
def test_not_a_duration(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        duration(text)


@given(st.integers(0, 1 << 45))
def test_size_text_is_close_to_the_size(n_bytes: int) -> None:
    number, unit = size_text(n_bytes).split()
    scale = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}[unit]
    assert abs(float(number) * scale - n_bytes) <= 0.00501 * scale


@pytest.mark.parametrize("argv", [["--unknown"], ["--size", "12Q"], ["--siz", "8"]])
def test_an_error_is_one_line_with_status_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    top = parser("tool", "A tool.")
    top.add_argument("--size", type=size)
    with pytest.raises(SystemExit) as caught:
        top.parse_args(argv)
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("tool: ") and printed.err.count("\n") == 1

"""Numbers as people read them."""

import pytest

from roofprobe import units


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (units.rate(231.84), "231.8 GB/s"),
        (units.rate(9.996), "10.0 GB/s"),  # no "10.00" where rounding adds a digit
        (units.rate(0.0123), "0.012 GB/s"),
        (units.rate(4812.3), "4812 GB/s"),
        (units.rate(None), "—"),
        (units.percent(0.8468), "85 %"),
        (units.between((229.84, 232.61)), "[229.8, 232.6]"),
        (units.between(None), "no interval"),
        (units.size(8), "8 B"),
        (units.size(1536), "1.5 KiB"),
        (units.size(1000), "1000 B"),  # not 1e+03
        (units.size(64 << 20), "64 MiB"),
        (units.size(2048 << 30), "2048 GiB"),
        (units.duration(28.34e-6), "28.3 µs"),
        (units.duration(999.9e-6), "1 ms"),
        (units.duration(48.2), "48.2 s"),
        (units.duration(1234.0), "1234 s"),
        (units.settings({"block_n": 64, "stores": "normal"}), "block_n=64, stores=normal"),
        (units.settings({}), "—"),
    ],
)
def test_numbers_as_people_read_them(text: str, expected: str) -> None:
    assert text == expected

"""A machine is recognised by what its firmware and driver say, and an unknown one borrows no ceiling."""

from pathlib import Path

import pytest

from roofprobe.ceiling import find_platform, load_platform, platforms
from roofprobe.errors import BadInput
from roofprobe.measurement import Side


@pytest.mark.parametrize(
    ("gpu", "product", "name"),
    [
        # Product strings as these machines' firmware has them: maker, product name and product version in one.
        ("NVIDIA GB10", "NVIDIA NVIDIA_DGX_Spark A.7", "dgx-spark"),
        ("NVIDIA GB10", "NVIDIA DGXSpark 5.36_0ACUM021", "dgx-spark"),
        ("NVIDIA GB10", "LENOVO 30KL0005GF ThinkStationPGX", "lenovo-thinkstation-pgx"),
        ("NVIDIA GB10", "Dell Inc. Dell Pro Max with GB10 FCM1253", "dell-pro-max-gb10"),
        ("NVIDIA GB10", "ASUSTeK COMPUTER INC. GX10", "asus-ascent-gx10"),
        ("NVIDIA GB10", "Another Maker Box", "gb10"),
        ("NVIDIA GB10", None, "gb10"),
        ("NVIDIA H200", "Some Server", "h200-sxm"),
        ("NVIDIA H100 80GB HBM3", None, "h100-sxm"),
    ],
)
def test_recognises(gpu: str, product: str | None, name: str) -> None:
    found = find_platform(gpu, product)
    assert found is not None and found.name == name


@pytest.mark.parametrize(
    ("gpu", "product"),
    [
        (None, None),
        (None, "NVIDIA NVIDIA_DGX_Spark A.7"),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA H200 NVL", None),
        ("NVIDIA GeForce RTX 4090", "DGX Spark"),
    ],
    ids=["no GPU", "a product alone", "H100 with other memory", "H200 with other power", "unknown GPU"],
)
def test_an_unknown_machine_borrows_no_ceiling(gpu: str | None, product: str | None) -> None:
    assert find_platform(gpu, product) is None


@pytest.mark.parametrize(
    ("name", "side", "nominal"),
    [
        ("dgx-spark", "device", 273.1),
        ("dgx-spark", "host", 273.1),
        ("h200-sxm", "device", 4800),
        ("h200-sxm", "host", None),
    ],
)
def test_the_host_shares_the_ceiling_only_of_unified_memory(name: str, side: Side, nominal: float | None) -> None:
    (platform,) = (p for p in platforms() if p.name == name)
    assert platform.nominal_gb_per_s(side) == nominal


def test_every_figure_has_a_source() -> None:
    for platform in platforms():
        figure = platform.memory.nominal_gb_per_s
        assert (platform.name == "generic") if figure is None else len(figure.source) > 10, platform.name
        for check in platform.checks.values():
            limits = [limit for limit in (check.at_least, check.at_most, check.suspect_above) if limit is not None]
            assert all(len(limit.source) > 10 for limit in limits)


def test_every_file_is_named_after_its_platform() -> None:
    names = [p.name for p in platforms()]
    assert len(set(names)) == len(names)
    folder = Path(__file__).parent.parent / "src" / "roofprobe" / "data" / "platforms"
    assert sorted(names) == sorted(path.stem for path in folder.glob("*.toml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = 3", "name"),
        ("name = 'x'\nextra = 1", "extra"),
        ("not toml", "platform.toml"),
        (
            "name = 'x'\ntitle = 'x'\nmatch = {gpu=['x']}\nmemory = {name='m', unified=true, nominal_gb_per_s=5}",
            "nominal",
        ),
    ],
    ids=["wrong type", "unknown field", "not TOML", "a figure without its source"],
)
def test_a_wrong_platform_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "platform.toml"
    path.write_text(text)
    with pytest.raises(BadInput, match=message):
        load_platform(path)

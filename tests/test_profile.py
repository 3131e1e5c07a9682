"""A profile holds what a run supports, and says exactly what is wrong with one that does not load."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from records import collective, environment, gemv, measurement

from roofprobe.errors import BadInput
from roofprobe.measurement import Measurement
from roofprobe.profile import TuningProfile, build_profile, json_schema
from roofprobe.run_file import Run


def run_of(*measurements: Measurement) -> Run:
    return Run(
        environment=environment(), measurements=measurements, collectives=(collective(),), skipped=(), ended=None
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "profile.json"
    build_profile(run_of(measurement(), measurement(op="copy"), gemv())).save(path)
    return path


def change(path: Path, keys: list[Any], value: Any) -> None:
    document = json.loads(path.read_text())
    inner = document
    for key in keys[:-1]:
        inner = inner[key]
    if value is None:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = value
    path.write_text(json.dumps(document))


def test_figures_come_from_the_records(saved: Path) -> None:
    profile = TuningProfile.load(saved)
    assert profile.schema == "roofprobe/profile/1"
    read = profile.ceilings["host"]["read"]
    assert (read.gb_per_s, read.best_gb_per_s, read.nominal_gb_per_s) == (pytest.approx(100), pytest.approx(100), None)
    (kernel,) = profile.kernels
    assert (kernel.op, kernel.format, kernel.n, kernel.k, kernel.batch) == ("gemv", "bf16", 4096, 8192, 1)
    assert kernel.ceiling_fraction == pytest.approx(0.8)
    assert kernel.bytes == 1_000_000_000
    assert kernel.verified
    (result,) = profile.collectives
    assert result.fit[0].alpha_us == 20
    assert result.points[-1].busbw_gb_per_s == pytest.approx((1 << 25) / (20e-6 + (1 << 25) / 10e9) / 1e9)


def test_invalid_readings_stay_out() -> None:
    wrong, impossible = gemv(wrong=1), measurement(op="copy", nominal_gb_per_s=50.0)
    profile = build_profile(run_of(measurement(), wrong, impossible))
    assert profile.kernels == ()
    assert list(profile.ceilings["host"]) == ["read"]


def test_a_hot_row_is_no_memory_figure() -> None:
    assert build_profile(run_of(gemv(residency="hot"))).kernels == ()


def test_a_group_of_one_has_no_bus_bandwidth(tmp_path: Path) -> None:
    alone = Run(
        environment=environment(),
        measurements=(),
        collectives=(collective(world_size=1, bus_factor=0.0, fit=()),),
        skipped=(),
        ended=None,
    )
    build_profile(alone).save(tmp_path / "profile.json")
    assert TuningProfile.load(tmp_path / "profile.json").collectives[0].points[0].busbw_gb_per_s == 0


def test_saved_profile_fits_the_published_schema(saved: Path) -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(saved.read_text()), schema)
    change(saved, ["kernels", 0, "n"], "many")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(saved.read_text()), schema)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["kernels", 0, "n"], "many", r"kernels\[0\]\.n: expected `int`, got `str`"),
        (["kernels", 0, "n"], 0, r"kernels\[0\]\.n: expected `int` >= 1"),
        (["kernels", 0, "op"], "gemm", r"kernels\[0\]\.op: invalid enum value 'gemm'"),
        (["kernels", 0, "seconds"], -1.0, r"kernels\[0\]\.seconds: expected `float` > 0"),
        (["ceilings", "host", "read", "gb_per_s"], None, r"gb_per_s: expected this field, got none"),
        (["ceilings"], [], r"ceilings: expected `object`, got `array`"),
        (["environment"], None, r"environment: expected this field, got none"),
        (["collectives", 0, "fit", 0, "alpha_us"], "1", r"collectives\[0\]\.fit\[0\]\.alpha_us: expected `float`"),
        (["schema"], "roofprobe/profile/2", r"schema: expected roofprobe/profile/1, got roofprobe/profile/2; a newer"),
        (["schema"], "something else", r"schema: expected roofprobe/profile/1, got something else; is this"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected(saved: Path, keys: list[Any], value: Any, message: str) -> None:
    change(saved, keys, value)
    with pytest.raises(BadInput, match=message) as caught:
        TuningProfile.load(saved)
    assert str(saved) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0, 1, 100, -3], ids=["empty", "one byte", "100 bytes", "all but the end"])
def test_a_truncated_profile_is_named(saved: Path, kept: int) -> None:
    saved.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(BadInput, match="not a whole JSON document"):
        TuningProfile.load(saved)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"[1, 2]", b"null", b'"text"', b"PK\x03\x04"])
def test_junk_is_named(saved: Path, content: bytes) -> None:
    saved.write_bytes(content)
    with pytest.raises(BadInput, match=r"profile\.json"):
        TuningProfile.load(saved)


def test_a_missing_profile_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="roofprobe run"):
        TuningProfile.load(tmp_path / "none.json")


def test_saving_leaves_no_part_behind(tmp_path: Path) -> None:
    profile = build_profile(run_of(measurement()))
    (tmp_path / "folder" / "profile.json").mkdir(parents=True)
    with pytest.raises(BadInput, match="can't write"):
        profile.save(tmp_path / "folder" / "profile.json")
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["profile.json"]

"""The rule by which an NCCL setting is adopted, and the two files that carry it to NCCL."""

from __future__ import annotations

from pathlib import Path
import subprocess

import msgspec
from nccl_timings import LL2, MERGED, SIMPLE8, TREE
import pytest

from roofprobe.nccl_choices import read_choices
from roofprobe.nccl_exports import LARGEST_BYTES, environment_file, tuner_rules, why_no_rules
from roofprobe.nccl_tuning import NcclBand, NcclCandidate, NcclRatio, NcclSetting, NcclTuning, bands, best_everywhere

Interval = tuple[float, float]


def candidate(setting: NcclSetting, intervals: dict[int, Interval | None]) -> NcclCandidate:
    ratios = [
        NcclRatio(bytes=n, ratio=1.0 if i is None else sum(i) / 2, interval=i) for n, i in sorted(intervals.items())
    ]
    return NcclCandidate(setting=setting, rounds=8, ratios=tuple(ratios))


@pytest.mark.parametrize(
    ("intervals", "adopted"),
    [
        pytest.param({1: (0.90, 0.95), 2: (0.99, 1.03)}, True, id="both limits just met"),
        pytest.param({1: (0.90, 0.951), 2: (0.99, 1.01)}, False, id="not surely 5 % better anywhere"),
        pytest.param({1: (0.50, 0.60), 2: (0.99, 1.031)}, False, id="maybe over 3 % worse somewhere"),
        pytest.param({1: (0.50, 0.60), 2: None}, False, id="a size without an interval"),
        pytest.param({1: (0.99, 1.01), 2: (0.99, 1.01)}, False, id="the same as the defaults"),
    ],
)
def test_a_setting_is_adopted_only_where_it_is_surely_better_and_nowhere_worse(
    intervals: dict[int, Interval | None], adopted: bool
) -> None:
    found = best_everywhere([candidate(LL2, intervals)])
    assert found == (LL2 if adopted else None)


def test_the_best_of_several_adoptable_settings_is_taken_and_one_with_a_problem_never() -> None:
    good = candidate(LL2, {1: (0.90, 0.92), 2: (0.99, 1.0)})
    better = candidate(TREE, {1: (0.80, 0.82), 2: (0.99, 1.0)})
    broken = NcclCandidate(setting=SIMPLE8, rounds=8, ratios=better.ratios, problem="3 elements wrong")
    assert best_everywhere([good, better, broken]) == TREE


OWN = {n: NcclSetting(algorithm="ring", protocol="simple", channels=4) for n in (1024, 4096, 16384)}


def test_bands_change_only_the_sizes_that_gain_and_spell_out_the_others() -> None:
    found = bands([candidate(LL2, {1024: (0.8, 0.9), 4096: (0.8, 0.9), 16384: (1.2, 1.3)})], OWN)
    assert found == (
        NcclBand(min_bytes=0, max_bytes=4096, setting=LL2, keep_default=False),
        NcclBand(min_bytes=4097, max_bytes=None, setting=OWN[16384], keep_default=True),
    )


def test_without_ncclss_own_choice_a_setting_measured_to_be_alike_stands_for_it_or_nothing_does() -> None:
    fast = candidate(LL2, {1024: (0.8, 0.9), 4096: (1.2, 1.3)})
    alike = candidate(TREE, {1024: (0.99, 1.01), 4096: (0.98, 1.02)})
    assert [b.setting for b in bands([fast, alike], {})] == [LL2, TREE]
    assert [b.setting for b in bands([fast], {})] == [LL2, None]


def test_a_change_does_not_reach_beyond_the_largest_size_that_was_measured() -> None:
    found = bands([candidate(LL2, {1024: (0.8, 0.9), 4096: (0.8, 0.9)})], OWN | {4096: OWN[4096]})
    assert [(b.min_bytes, b.max_bytes, b.keep_default) for b in found] == [(0, 4096, False), (4097, None, True)]
    alone = bands([candidate(LL2, {1024: (0.8, 0.9)})], {})
    assert [(b.max_bytes, b.setting) for b in alone] == [(1024, LL2), (None, None)]


@pytest.mark.parametrize(
    "change",
    [{"everywhere": TREE}, {"bands": (NcclBand(min_bytes=0, max_bytes=None, setting=MERGED, keep_default=False),)}],
)
def test_a_profile_that_no_measurement_leaves_behind_is_refused(change: dict[str, object]) -> None:
    best = candidate(LL2, {1024: (0.8, 0.9)})
    document = msgspec.to_builtins(tuning((), best)) | msgspec.to_builtins(change)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(document, NcclTuning)


def test_a_setting_that_a_rule_cannot_say_makes_no_band() -> None:
    assert bands([candidate(MERGED, {1024: (0.8, 0.9)})], {}) == ()


def tuning(found: tuple[NcclBand, ...], *candidates: NcclCandidate) -> NcclTuning:
    return NcclTuning(
        world_size=2, nodes=2, transport="NET/IB", nccl="2.30.3", created="2026-01-31T12:00:00+00:00",
        candidates=candidates, everywhere=best_everywhere(candidates), bands=found,
    )  # fmt: skip


def read_rules(text: str) -> list[dict[str, int | str]]:
    """As the plugin reads them: comma-separated, empty fields swallowed, unknown words taken for a default."""
    rules = []
    for line in text.splitlines():
        if line.startswith("#"):
            assert len(line) < 255
            continue
        fields = [field.strip() for field in line.split(",") if field]
        assert 8 <= len(fields) <= 10 and len(line) < 255, line
        assert fields[0] == "allreduce" and fields[3] in ("ring", "tree") and fields[4] in ("ll", "ll128", "simple")
        names = ("min", "max", "channels", "nodes", "ranks", "pipe_ops", "registered")
        numbers = [int(field) for i, field in enumerate(fields) if i not in (0, 3, 4)]
        rules.append({"algo": fields[3], "proto": fields[4]} | dict(zip(names, numbers, strict=True)))
    return rules


def test_the_tuner_file_has_a_full_rule_for_every_size() -> None:
    best = candidate(LL2, {1024: (0.8, 0.9), 4096: (1.2, 1.3), 16384: (1.2, 1.3)})
    text = tuner_rules(tuning(bands([best], OWN), best))
    assert text is not None
    rules = read_rules(text)
    assert [rule["min"] for rule in rules] == [0, 1025]
    assert [rule["max"] for rule in rules] == [1024, LARGEST_BYTES]
    assert all(rule["channels"] >= 1 and rule["nodes"] == rule["ranks"] == 2 for rule in rules)  # type: ignore[operator]
    assert (rules[0]["algo"], rules[0]["proto"], rules[0]["channels"]) == ("ring", "ll", 2)
    assert (rules[1]["algo"], rules[1]["proto"], rules[1]["channels"]) == ("ring", "simple", 4)


def test_no_rules_are_written_that_would_change_nothing_or_leave_a_size_on_one_channel() -> None:
    same = candidate(LL2, {1024: (0.99, 1.01)})
    assert tuner_rules(tuning(bands([same], OWN), same)) is None
    assert "keep the defaults" in why_no_rules(tuning(bands([same], OWN), same))
    fast = candidate(LL2, {1024: (0.8, 0.9), 4096: (1.2, 1.3)})
    assert tuner_rules(tuning(bands([fast], {}), fast)) is None
    assert "from 1025 bytes on" in why_no_rules(tuning(bands([fast], {}), fast))


def test_a_shell_takes_the_environment_file(tmp_path: Path) -> None:
    best = candidate(LL2, {1024: (0.8, 0.9), 4096: (1.0, 1.02)})
    (tmp_path / "env").write_text(environment_file(tuning((), best)))
    script = '. ./env && echo "$NCCL_ALGO $NCCL_PROTO $NCCL_MIN_NCHANNELS $NCCL_MAX_NCHANNELS"'
    done = subprocess.run(["sh", "-euc", script], cwd=tmp_path, capture_output=True, text=True, check=True, env={})
    assert done.stdout == "allreduce:ring allreduce:ll 2 2\n"


def test_an_environment_file_that_keeps_the_defaults_says_so_and_sets_nothing() -> None:
    text = environment_file(tuning((), candidate(LL2, {1024: (0.99, 1.01)})))
    assert "keep the defaults" in text
    assert all(line.startswith("#") for line in text.splitlines())


@pytest.mark.parametrize(
    ("line", "setting"),
    [
        pytest.param("Algo RING proto LL channel{Lo..Hi}={0..3}", ("ring", "ll", 4), id="names, as 2.24 and later"),
        pytest.param("Algo 0 proto 2 channel{Lo..Hi}={0..1}", ("tree", "simple", 2), id="numbers, as before"),
        pytest.param("Algo NVLS proto SIMPLE channel{Lo..Hi}={0..1}", None, id="an algorithm that is no candidate"),
        pytest.param("Algo RING proto LL", None, id="no channels told"),
        pytest.param("Algo RING proto LL channel{Lo..Hi}={3..0}", None, id="nonsense"),
    ],
)
def test_ncclss_own_choice_is_read_from_its_log(
    line: str, setting: tuple[str, str, int] | None, tmp_path: Path
) -> None:
    log = tmp_path / "nccl.log"
    prefix = "spark-1:4711:4790 [0] NCCL INFO AllReduce: "
    log.write_bytes(f"{prefix}1024 Bytes -> {line}\n{prefix}77 Bytes -> {line}\n".encode() + b"\xff\x00 junk\n")
    found = read_choices([log, tmp_path / "missing.log"], {1024})
    if setting is None:
        assert found == {}
    else:
        algorithm, protocol, channels = setting
        assert {n: (s.algorithm, s.protocol, s.channels) for n, s in found.items()} == {
            1024: (algorithm, protocol, channels)
        }

"""Recorded samplings: each state of a unit is named, once and alone, and healthy ones raise nothing."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest
from sampling_cases import CLEAN, FAULTS, SOAK, SPARK, WARNINGS, low_power
from samplings import Line, cut, healthy, read, result, scaled, stalled, without

from roofprobe.ceiling import Platform
from roofprobe.doctor.case import Case
from roofprobe.doctor.diagnosis import diagnose
from roofprobe.doctor.sampling_rules import judge_sampling
from roofprobe.finding import Finding


def found(folder: Path, lines: list[Line], platform: Platform | None = SPARK) -> list[tuple[str, str]]:
    return [(finding.id, finding.severity) for finding in judge_sampling(read(folder, lines), platform)]


def only(folder: Path, lines: list[Line], platform: Platform | None = SPARK) -> Finding:
    (finding,) = judge_sampling(read(folder, lines), platform)
    assert finding.host == "unit1"
    return finding


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_named_alone(tmp_path: Path, case: str) -> None:
    lines, fault = FAULTS[case]
    finding = only(tmp_path, lines)
    assert (finding.id, finding.severity) == (fault, "fault"), finding
    assert finding.evidence and finding.remedy.endswith(".")


@pytest.mark.parametrize("case", [name for name, (_, fault) in FAULTS.items() if not fault.startswith("reading")])
def test_a_units_fault_is_named_without_a_platform(tmp_path: Path, case: str) -> None:
    lines, fault = FAULTS[case]
    if case in ("thermal from the start", "memory shared with another", "low power at the supply's cap"):
        assert "fault" not in {severity for _, severity in found(tmp_path, lines, None)}  # nothing to hold it against
    else:
        assert found(tmp_path, lines, None) == [(fault, "fault")]


@pytest.mark.parametrize("case", CLEAN)
def test_a_healthy_sampling_raises_nothing(tmp_path: Path, case: str) -> None:
    lines, platform = CLEAN[case]
    assert judge_sampling(read(tmp_path, lines), platform) == ()


@pytest.mark.parametrize("case", WARNINGS)
def test_a_doubt_is_a_warning(tmp_path: Path, case: str) -> None:
    lines, doubt = WARNINGS[case]
    assert found(tmp_path, lines) == [(doubt, "warning")]


def test_a_low_utilisation_does_not_hide_a_slow_state(tmp_path: Path) -> None:
    assert found(tmp_path, scaled(healthy(utilization=60), 0.2, "gemv")) == [("unit.hidden-slow-state", "fault")]


def test_an_implausible_gemv_does_not_make_copy_look_slow_nor_hide_a_state(tmp_path: Path) -> None:
    lines = [*scaled(healthy(), 0.2, "gemv"), *(result(60 + t, "gemv", 900) for t in range(50))]
    assert found(tmp_path, lines) == [("unit.hidden-slow-state", "fault"), ("reading.implausible", "fault")]


def test_two_faults_of_one_unit_are_both_named(tmp_path: Path) -> None:
    lines = scaled(stalled(7200, (1800, 3600, 5400), **SOAK), 0.25, "gemv")
    assert {name for name, _ in found(tmp_path, lines)} == {"unit.hidden-slow-state", "unit.periodic-stall"}


@pytest.mark.parametrize(("at", "told"), [((1800, 3600, 5400), "every 30 min"), ((1800, 5400), "60 min apart")])
def test_a_stalls_evidence_names_its_period(tmp_path: Path, at: tuple[float, ...], told: str) -> None:
    assert told in only(tmp_path, stalled(7200, at, **SOAK)).evidence


def test_a_stall_that_sampling_missed_leaves_the_period(tmp_path: Path) -> None:
    lines = stalled(9100, (1800, 3600, 7200, 8995), **SOAK)
    assert "every 30 min" in only(tmp_path, lines).evidence


def test_a_gpus_figures_are_not_mixed_with_a_cpus(tmp_path: Path) -> None:
    """A GB10's CPU reaches half of what its GPU does, over the same memory."""
    cpu = [{**result(t, "gemv", 60), "side": "host"} for t in range(1, 60)]
    assert found(tmp_path, [*healthy(), *cpu]) == []


def test_a_rule_judges_every_sampling_by_its_hosts_platform(tmp_path: Path) -> None:
    fast = scaled(healthy(), 1.5)
    slow = low_power()
    case = Case(samplings=(read(tmp_path, fast, "a"), read(tmp_path, slow, "b"), read(tmp_path, healthy(), "c")))
    # Nothing says that a's figures are beyond any GB10: then c is slower than its peer, whatever ails b.
    assert [(f.id, f.host) for f in diagnose(case)] == [("unit.low-power-state", "b"), ("unit.slow-rank", "c")]
    case = Case(samplings=case.samplings, platform=SPARK)
    assert [(f.id, f.host) for f in diagnose(case)] == [("reading.implausible", "a"), ("unit.low-power-state", "b")]


PEERS: dict[str, tuple[dict[str, list[Line]], list[tuple[str, str]]]] = {
    "healthy units differ by 7 %": ({"a": healthy(), "b": scaled(healthy(), 0.93), "c": healthy(seed=1)}, []),
    "one of four is slow": (
        {"a": healthy(), "b": healthy(seed=1), "c": scaled(healthy(), 0.7), "d": healthy(seed=2)},
        [("unit.slow-rank", "c")],
    ),
    "one of two is slow": ({"a": scaled(healthy(), 0.8, "matmul"), "b": healthy()}, [("unit.slow-rank", "a")]),
    "a known state explains it": ({"a": low_power(), "b": healthy()}, [("unit.low-power-state", "a")]),
    "a state on each of two": (
        {"a": low_power(), "b": scaled(healthy(), 0.2, "gemv"), "c": healthy()},
        [("unit.low-power-state", "a"), ("unit.hidden-slow-state", "b")],
    ),
    "other sentinels on each": ({"a": healthy(rates={"gemv": 231.0}), "b": healthy(rates={"copy": 195.0})}, []),
}


@pytest.mark.parametrize("case", PEERS)
def test_samplings_of_one_platform_are_compared(tmp_path: Path, case: str) -> None:
    by_host, expected = PEERS[case]
    samplings = tuple(read(tmp_path, lines, host) for host, lines in by_host.items())
    assert [(f.id, f.host) for f in diagnose(Case(samplings=samplings, platform=SPARK))] == expected


@settings(deadline=None, max_examples=20)
@given(
    noise=st.floats(0, 0.05),
    seed=st.integers(0, 10_000),
    slower=st.floats(0.93, 1.0),
    minutes=st.integers(1, 40),
    dropped=st.sets(st.sampled_from(["sm_clock_mhz", "power_w", "temperature_c", "p_state", "reasons"])),
)
def test_noise_and_missing_fields_never_make_a_healthy_unit_faulty(
    tmp_path_factory: pytest.TempPathFactory, noise: float, seed: int, slower: float, minutes: int, dropped: set[str]
) -> None:
    lines = without(healthy(60 * minutes, every=5, sentinel_every=15, noise=noise, seed=seed), *dropped)
    # Above 240 GB/s a reading is suspect, and rightly: 5 % of noise takes a healthy 232 there.
    lines = [line for line in scaled(lines, slower) if line.get("gb_per_s", 0) <= 240]
    assert found(tmp_path_factory.mktemp("clean"), lines) == []


@settings(deadline=None, max_examples=30)
@given(clock=st.floats(500, 850), power=st.floats(15, 30), factor=st.floats(0.1, 1.0), seed=st.integers(0, 10_000))
def test_the_low_power_state_is_found_at_any_depth(
    tmp_path_factory: pytest.TempPathFactory, clock: float, power: float, factor: float, seed: int
) -> None:
    lines = scaled(healthy(clock=clock, power=power, seed=seed), factor)
    assert found(tmp_path_factory.mktemp("low"), lines) == [("unit.low-power-state", "fault")]


@settings(deadline=None, max_examples=30)
@given(factor=st.floats(0.01, 0.45), at=st.floats(700, 1900), length=st.floats(21, 120), noise=st.floats(0, 0.03))
def test_a_stall_in_a_soak_is_found_wherever_it_is(
    tmp_path_factory: pytest.TempPathFactory, factor: float, at: float, length: float, noise: float
) -> None:
    lines = scaled(healthy(2100, noise=noise, **SOAK), factor, start=at, end=at + length)  # type: ignore[arg-type]
    assert found(tmp_path_factory.mktemp("soak"), lines) == [("unit.periodic-stall", "fault")]


def test_one_stall_in_an_hour_that_would_have_come_again_is_a_warning(tmp_path: Path) -> None:
    """At 1010 s of 3600: half-hourly stalls would have shown a second one."""
    lines = scaled(healthy(3600, **SOAK), 0.1, start=1010, end=1070)  # type: ignore[arg-type]
    assert found(tmp_path, lines) == [("unit.periodic-stall", "warning")]


@pytest.mark.parametrize("after", [0.4, 1.0], ids=["before the next sample was due", "when it was due"])
def test_a_sentinels_result_may_come_after_the_last_sample_before_a_gap(tmp_path: Path, after: float) -> None:
    lines = [*cut(healthy(2100, sentinel_every=3), 1499, 1530), result(1499 + after, "gemv", 231)]
    assert found(tmp_path, lines) == [("unit.periodic-stall", "fault")]


@pytest.mark.parametrize("at", [0.0, 9.9], ids=["start", "end"])
def test_samples_that_pause_while_a_sentinel_runs_are_no_stall(tmp_path: Path, at: float) -> None:
    lines = healthy(2100, every=0.5, sentinel_every=None)
    for start in range(120, 2100, 120):
        lines = [*cut(lines, start, start + 10), result(start + at, "gemv", 231)]
    assert found(tmp_path, lines) == []


def test_moments_may_be_those_of_the_systems_clock(tmp_path: Path) -> None:
    lines = [{**line, "t_s": 1_790_000_000 + line["t_s"]} for line in stalled(7200, (1800, 3600, 5400), **SOAK)]
    assert found(tmp_path, lines) == [("unit.periodic-stall", "fault")]


def test_memory_far_below_a_healthy_units_is_a_warning(tmp_path: Path) -> None:
    lines = healthy(rates={"gemv": 150.0, "copy": 152.0, "matmul": 84.0})
    assert found(tmp_path, lines) == [("unit.slow-memory", "warning")]

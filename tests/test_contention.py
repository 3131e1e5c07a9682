"""The shared ceiling of synthetic curves: found despite noise and disturbed points, not found where there is none."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from roofprobe.contention import fit_ceiling
from roofprobe.load_record import Contention, ContentionPoint, SharedCeiling
from roofprobe.probes.contention_curve import WINDOWS, cases, thread_counts, windows

GB10_THREADS = (1, 2, 4, 8, 16, 20)


def point(device: float, host: float, threads: int, random: Random, noise: float) -> ContentionPoint:
    """Rates in GB/s as windows of 0.1 s; noise is relative, of the whole point and of each window alike."""
    level = 1 + random.gauss(0, noise)

    def windows_of(rate: float) -> tuple[float, ...]:
        return tuple(rate * 1e8 * level * (1 + random.gauss(0, noise)) for _ in range(WINDOWS)) if rate else ()

    return ContentionPoint(
        device=device > 0,
        cpu_threads=threads,
        window_seconds=0.1,
        device_bytes=windows_of(device),
        host_bytes=windows_of(host),
    )


def curve(
    ceiling: float,
    gpu: float | None,
    counts: tuple[int, ...] = GB10_THREADS,
    per_thread: float = 12.0,
    cpu_most: float = 90.0,
    rounds: int = 3,
    noise: float = 0.0,
    seed: int = 1,
) -> list[ContentionPoint]:
    """What readers get where they share `ceiling` in proportion to what they ask for."""
    random = Random(seed)
    points = []
    for _ in range(rounds):
        for count in counts:
            host = min(count * per_thread, cpu_most, ceiling)
            points.append(point(0, host, count, random, noise))
            if gpu is not None:
                share = min(1.0, ceiling / (gpu + host))
                points.append(point(gpu * share, host * share, count, random, noise))
        if gpu is not None:
            points.append(point(gpu, 0, 0, random, noise))
    random.shuffle(points)
    return points


def fitted(points: list[ContentionPoint]) -> SharedCeiling:
    found = fit_ceiling(points)
    assert found is not None
    return found


@pytest.mark.parametrize(("ceiling", "gpu"), [(250.0, 231.0), (232.0, 231.0), (90.0, None)], ids=["more", "gpu", "cpu"])
def test_an_exact_curve_gives_its_ceiling_back(ceiling: float, gpu: float | None) -> None:
    found = fitted(curve(ceiling, gpu))
    assert found.gb_per_s == pytest.approx(ceiling)
    assert found.interval == pytest.approx((ceiling, ceiling))
    assert found.held_out_worst == pytest.approx(0, abs=1e-9)
    assert found.at_least_gb_per_s == pytest.approx(ceiling)


def test_saturated_points_are_those_that_ask_for_more_than_they_get() -> None:
    found = fitted(curve(250.0, 231.0))  # 231 and 12, 24, 48, 90 …: all but the first two ask for over 5 % more
    assert (found.saturated_points, found.saturated_cases) == (3 * 4, 4)


@pytest.mark.parametrize("seed", range(5))
def test_noise_moves_the_ceiling_less_than_it_moves_the_points(seed: int) -> None:
    found = fitted(curve(250.0, 231.0, noise=0.03, seed=seed))
    assert found.gb_per_s == pytest.approx(250, rel=0.03)
    assert found.interval is not None
    low, high = found.interval
    assert low < found.gb_per_s < high < 1.1 * low
    assert found.held_out_typical is not None and found.held_out_typical < 0.05


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """95 % is nominal: a percentile bootstrap over three rounds falls short of it, and must not by much."""
    held = 0
    for seed in range(40):
        interval = fitted(curve(250.0, 231.0, counts=(4, 8, 16, 20), noise=0.02, seed=100 + seed)).interval
        assert interval is not None
        held += interval[0] <= 250 <= interval[1]
    assert held >= 32


def test_a_disturbed_minority_of_points_does_not_move_it() -> None:
    points = curve(250.0, 231.0, noise=0.005)
    spoiled = 0
    for i, each in enumerate(points):
        if each.device and each.cpu_threads >= 8 and spoiled < 3:
            device, host = (tuple(b / 2 for b in column) for column in (each.device_bytes, each.host_bytes))
            points[i] = msgspec.structs.replace(each, device_bytes=device, host_bytes=host)
            spoiled += 1
    assert spoiled == 3
    assert fitted(points).gb_per_s == pytest.approx(250, rel=0.01)


def test_readers_that_never_ask_for_more_than_there_is_have_no_ceiling() -> None:
    """A card with memory of its own: each gets what it gets alone."""
    found = fitted(curve(10_000.0, 231.0, noise=0.01))
    assert found.gb_per_s is None and found.interval is None and found.saturated_points == 0
    assert found.at_least_gb_per_s == pytest.approx(231 + 90, rel=0.05)


def test_a_single_case_is_no_plateau_and_the_record_says_so() -> None:
    """Two CPUs: one thread gets 30 GB/s and two 40; three rounds of it are three points of one case."""
    found = fitted(curve(40.0, None, counts=(1, 2), per_thread=30.0))
    assert found.gb_per_s == pytest.approx(40)
    assert (found.saturated_points, found.saturated_cases) == (3, 1)
    assert found.held_out_typical is None, "with that case left out nothing together is left"


def test_the_held_out_error_tells_of_a_curve_that_has_another_shape() -> None:
    """Totals that fall with every thread: no one number is the ceiling."""
    random = Random(3)
    points = []
    for _ in range(3):
        points.append(point(231, 0, 0, random, 0))
        for i, count in enumerate(GB10_THREADS):
            points.append(point(0, 90, count, random, 0))
            points.append(point(230 - 30 * i, 20, count, random, 0))
    found = fitted(points)
    assert found.held_out_worst is not None and found.held_out_worst > 0.2


def test_nothing_together_or_nothing_alone_is_no_curve() -> None:
    random = Random(1)
    assert fit_ceiling([]) is None
    assert fit_ceiling([point(231, 0, 0, random, 0)]) is None
    assert fit_ceiling([point(200, 40, 4, random, 0)]) is None
    assert fit_ceiling([point(0, 12, 1, random, 0)]) is None


def test_the_same_points_give_the_same_record_whatever_their_order() -> None:
    points = curve(250.0, 231.0, noise=0.02)
    assert fit_ceiling(points) == fit_ceiling(points)
    again = fitted(list(reversed(points)))
    assert again.gb_per_s == fitted(points).gb_per_s


@pytest.mark.parametrize(
    "fields",
    [
        {"window_seconds": 0.0, "host_bytes": (1.0,)},
        {"window_seconds": 0.1},
        {"window_seconds": 0.1, "host_bytes": (1.0, 1.0), "device_bytes": (1.0,)},
        {"window_seconds": 0.1, "host_bytes": (1.0, 0.0)},
    ],
    ids=["no time", "nobody read", "ragged", "nothing moved"],
)
def test_a_point_that_can_have_no_rate_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        ContentionPoint(device="device_bytes" in fields, cpu_threads=1, **fields)  # type: ignore[arg-type]


def test_a_points_rates_add_up() -> None:
    p = ContentionPoint(
        device=True, cpu_threads=2, window_seconds=0.5, device_bytes=(50e9, 60e9, 70e9), host_bytes=(20e9, 10e9, 5e9)
    )
    assert (p.device_gb_per_s, p.host_gb_per_s) == (120, 20)
    assert p.totals_gb_per_s == (140, 140, 150) and p.gb_per_s == 140


def test_windows_share_out_the_launches_that_their_edges_cut() -> None:
    steady = [(i * 0.3, (i + 1) * 0.3) for i in range(40)]
    late = [(1.0 + i * 0.5, 1.5 + i * 0.5) for i in range(18)]  # to 10.0
    length, (first, second) = windows([steady, late])
    assert length == pytest.approx(9.0 / WINDOWS), "the time in which both ran"
    assert first == pytest.approx([length / 0.3] * WINDOWS)
    assert second == pytest.approx([length / 0.5] * WINDOWS)
    stalled = [(0.0, 1.0), (1.0, 7.0), (7.0, 8.0)]
    assert windows([stalled])[1][0] == pytest.approx([1, *[1 / 6] * 6, 1])


def test_cases_hold_every_reader_alone_and_with_the_gpu() -> None:
    assert thread_counts(1) == (1,) and thread_counts(2) == (1, 2) and thread_counts(20) == (1, 2, 4, 8, 16, 20)
    with_gpu = cases(4, device=True)
    assert len(with_gpu) == len(set(with_gpu)) == 1 + 3 + 3
    assert [(c.device, c.cpu_threads) for c in cases(4, device=False)] == [(False, 1), (False, 2), (False, 4)]


def test_a_contention_record_survives_its_json() -> None:
    points = tuple(curve(250.0, 231.0, rounds=1))
    made = Contention(
        sides=("device", "host"), op="read", memory="test", shared=True, points=points, ceiling=fit_ceiling(points)
    )
    assert msgspec.json.decode(msgspec.json.encode(made), type=Contention) == made

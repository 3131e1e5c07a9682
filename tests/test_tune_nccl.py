"""`roofprobe tune --nccl`: what is run, what is adopted, and what survives an interruption. NCCL itself never ran."""

from __future__ import annotations

import io
from pathlib import Path
import sys

import msgspec
from nccl_timings import LL2, MERGED, REFUSED, SIMPLE8, SIZES, TREE, Player, factors
import pytest
from records import collective, environment

from roofprobe import profile_command
from roofprobe.console import Console
from roofprobe.errors import BAD_INPUT, NOT_MEASURED, RoofprobeError
from roofprobe.measurement import CollectivePoint
from roofprobe.nccl_tuning import DEFAULTS, NcclSetting, NcclTuning
from roofprobe.probes import nccl_runs, tune, tune_nccl
from roofprobe.probes.nccl_candidates import candidates
from roofprobe.probes.nccl_runs import ProbeRunner
from roofprobe.profile import SCHEMA, TuningProfile

OWN = {n: NcclSetting(algorithm="ring", protocol="simple", channels=4) for n in SIZES}


def find(player: Player, path: Path, settings: list[NcclSetting], rounds: int = 8) -> NcclTuning | None:
    console = Console(io.StringIO())
    return tune_nccl.find_settings(player, lambda _: settings, rounds, path, nodes=2, nccl="2.30.3", console=console)


def test_a_setting_that_is_better_throughout_is_adopted_everywhere_despite_a_drifting_link(tmp_path: Path) -> None:
    player = Player({LL2: factors(0.8, 0.99), SIMPLE8: factors(1.4, 0.98)}, OWN)
    found = find(player, tmp_path / "p.json", [LL2, SIMPLE8])
    assert found is not None and found.everywhere == LL2
    assert [b.keep_default for b in found.bands] == [False, True]
    assert found.bands[1].min_bytes == (1 << 16) + 1


def test_what_helps_short_messages_and_hurts_long_ones_becomes_a_band_alone(tmp_path: Path) -> None:
    found = find(Player({LL2: factors(0.8, 1.5)}, OWN), tmp_path / "p.json", [LL2])
    assert found is not None and found.everywhere is None
    assert found.bands[0].setting == LL2 and found.bands[-1].setting == OWN[SIZES[-1]]
    assert found.has_rules


def test_a_small_gain_keeps_the_defaults(tmp_path: Path) -> None:
    found = find(Player({TREE: factors(0.96, 0.96)}, OWN), tmp_path / "p.json", [TREE])
    assert found is not None and found.everywhere is None and not found.has_rules


def test_noise_alone_adopts_nothing(tmp_path: Path) -> None:
    settings = candidates(2, OWN.values())
    player = Player({setting: {} for setting in settings}, OWN, noise=0.15)
    found = find(player, tmp_path / "p.json", settings)
    assert found is not None and found.everywhere is None and not found.has_rules


def test_a_setting_that_nccl_refuses_is_left_out_with_the_reason(tmp_path: Path) -> None:
    found = find(Player({LL2: factors(0.8, 0.8)}, OWN), tmp_path / "p.json", [REFUSED, LL2])
    assert found is not None and found.everywhere == LL2
    assert {c.setting: c.problem for c in found.candidates}[REFUSED] == "no algorithm/protocol available"
    assert any("no algorithm/protocol available" in line for line in tune_nccl.verdict(found))


def test_every_run_has_the_defaults_beside_it_and_they_take_turns_at_going_first(tmp_path: Path) -> None:
    player = Player({LL2: factors(0.8, 0.8)}, OWN)
    find(player, tmp_path / "p.json", [LL2], rounds=6)
    screening, rounds = player.runs[:4], player.runs[4:]
    assert screening == [DEFAULTS, DEFAULTS, LL2, DEFAULTS]  # the first tells what NCCL chooses
    assert rounds == [DEFAULTS, LL2, LL2, DEFAULTS] * 3


@pytest.mark.parametrize("fail_at", [3, 9], ids=["while screening", "while confirming"])
def test_after_an_interruption_no_comparison_is_made_twice(fail_at: int, tmp_path: Path) -> None:
    settings = [LL2, SIMPLE8, TREE]
    table = {LL2: factors(0.8, 0.99), SIMPLE8: factors(1.0, 1.1), TREE: factors(1.1, 1.0)}
    whole = Player(table, OWN)
    assert find(whole, tmp_path / "whole.json", settings) is not None
    player = Player(table, OWN, fail_at=fail_at)
    assert find(player, tmp_path / "p.json", settings) is None
    before = [s for s in player.runs if s != DEFAULTS]
    found = find(player, tmp_path / "p.json", settings)
    assert found is not None and found.everywhere == LL2
    of_settings = [s for s in player.runs if s != DEFAULTS]
    # The comparison under way is all that is repeated.
    assert len(of_settings) <= len([s for s in whole.runs if s != DEFAULTS]) + 1
    assert of_settings[: len(before)] == before
    again = Player(table, OWN)
    find(again, tmp_path / "p.json", settings)
    assert len(again.runs) == len(whole.runs), "a finished tuning is measured anew, not read back"


def test_a_failure_under_the_defaults_ends_it_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(RoofprobeError, match="under the defaults too"):
        find(Player({}, defaults_fail=True), tmp_path / "p.json", [LL2])


def test_a_torn_last_line_is_cut_off_and_any_other_damage_is_told(tmp_path: Path) -> None:
    log = tmp_path / "p.json.nccl-runs.jsonl"
    log.write_bytes(b'{"binding":"recorded","finished":true}\n{"bind')
    assert find(Player({LL2: {}}, OWN), tmp_path / "p.json", [LL2]) is not None
    assert all(line.endswith(b"}") for line in log.read_bytes().splitlines())
    log.write_bytes(b"what\n")
    with pytest.raises(RoofprobeError, match="line 1"):
        find(Player({LL2: {}}, OWN), tmp_path / "p.json", [LL2])


def test_the_runner_starts_the_probe_anew_with_the_setting_and_without_the_callers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NCCL_ALGO", "Tree")
    monkeypatch.setattr(nccl_runs, "gpu_count", lambda: 2)
    local = ProbeRunner((), 1024, 4096, 4, 50)
    command, variables = local.command(LL2, tmp_path / "r", {})
    assert command[3:] == [
        "allreduce",
        *["-b", "1024", "-e", "4096", "-f", "4", "-n", "50", "--no-link-baseline", "--record"],
        f"{tmp_path}/r",
        "--ranks",
        "2",
    ]
    assert (variables["NCCL_ALGO"], variables["NCCL_PROTO"]) == ("allreduce:ring", "allreduce:ll")
    command, variables = local.command(DEFAULTS, tmp_path / "r", {})
    assert "NCCL_ALGO" not in variables
    across = ProbeRunner(("a", "b"), 1024, 4096, 4, 50)
    command, _ = across.command(MERGED, tmp_path / "r", {})
    assert command[3:9] == ["launch", "--hosts", "a,b", "--env", "NCCL_IB_MERGE_NICS=1", "--"]
    monkeypatch.setenv("NCCL_IB_HCA", "rocep1s0f0")  # ssh would leave it behind
    command, _ = across.command(DEFAULTS, tmp_path / "r", {})
    assert command[6:8] == ["--env", "NCCL_IB_HCA=rocep1s0f0"] and "Tree" not in " ".join(command)


def stub_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> ProbeRunner:
    """A runner whose probe is a script that gets RECORD as its argument."""
    (tmp_path / "probe.py").write_text(body)
    runner = ProbeRunner((), 1024, 1024, 2, 6)

    def command(_: object, __: NcclSetting, record: Path, extra: dict[str, str]) -> tuple[list[str], dict[str, str]]:
        return [sys.executable, str(tmp_path / "probe.py"), str(record)], {"LOG": extra.get("NCCL_DEBUG_FILE", "")}

    monkeypatch.setattr(ProbeRunner, "command", command)
    return runner


def recorded(backend: str = "nccl", wrong: int = 0) -> str:
    point = CollectivePoint(
        bytes=1024, count=256, out_of_place_seconds=(3e-5,) * 6, in_place_seconds=(3e-5,) * 6, wrong=wrong
    )
    record = collective(backend=backend, transport="NET/IB", points=(point,))
    return f"import os, sys; open(sys.argv[1], 'wb').write({msgspec.json.encode(record)!r})\n"


def test_the_runner_reads_times_and_nccls_own_choices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = "NCCL INFO AllReduce: 1024 Bytes -> Algo RING proto LL channel{Lo..Hi}={0..1}\\n"
    body = recorded() + f"open(os.environ['LOG'].replace('%h', 'a').replace('%p', '1'), 'w').write('{log}')\n"
    found = stub_probe(tmp_path, monkeypatch, body).defaults()
    assert found.seconds == {1024: 3e-5} and found.own_choices == {1024: LL2}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param("import sys; sys.exit('NCCL WARN no algorithm/protocol available')", "no algorithm", id="refused"),
        pytest.param(recorded(wrong=3), "3 elements wrong", id="wrong result"),
        pytest.param(recorded(backend="gloo"), "carried by gloo", id="not NCCL"),
    ],
)
def test_a_run_that_fails_says_why(body: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = stub_probe(tmp_path, monkeypatch, body)
    assert words in str(runner.run(LL2).problem)
    with pytest.raises(RoofprobeError, match=words):
        runner.run(DEFAULTS)


def test_without_gpus_it_can_not_be_measured(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    if tune_nccl.gpu_count() >= 2:
        pytest.skip("this host has the GPUs")
    assert tune.main(["--nccl", "--profile", str(tmp_path / "p.json")]) == NOT_MEASURED
    assert "needs at least two" in capsys.readouterr().err


def profile_with(*nccl: NcclTuning) -> TuningProfile:
    return TuningProfile(
        schema=SCHEMA,
        created="2026-01-31T12:00:00+00:00",
        environment=environment(),
        ceilings={},
        kernels=(),
        collectives=(),
        nccl=nccl,
    )


def test_the_profile_exports_what_was_found(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = find(Player({LL2: factors(0.8, 0.99)}, OWN), tmp_path / "p.json", [LL2])
    assert found is not None
    path = tmp_path / "profile.json"
    profile = profile_with(found)
    profile.save(path)
    assert TuningProfile.load(path) == profile
    assert profile_command.main(["export", "nccl-env", str(path)]) == 0
    assert "export NCCL_PROTO=allreduce:ll\n" in capsys.readouterr().out
    assert profile_command.main(["export", "nccl-tuner", str(path), "-o", str(tmp_path / "rules.csv")]) == 0
    assert (tmp_path / "rules.csv").read_text().splitlines()[1].startswith("allreduce,0,")
    assert profile_command.main(["show", str(path)]) == 0
    assert "NCCL_PROTO=allreduce:ll" in capsys.readouterr().out


def test_an_export_without_a_measurement_says_what_to_measure(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "profile.json"
    profile_with().save(path)
    assert profile_command.main(["export", "nccl-env", str(path)]) == NOT_MEASURED
    assert "roofprobe tune --nccl" in capsys.readouterr().err
    assert profile_command.main(["export", "nccl-tuner"]) == BAD_INPUT


def test_a_real_probe_over_another_backend_is_no_measurement_of_nccl(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way through processes and record; without GPUs the two ranks fall back to gloo."""
    if tune_nccl.gpu_count():
        pytest.skip("this host has a GPU, so the ranks would use NCCL")
    monkeypatch.setattr(nccl_runs, "gpu_count", lambda: 2)
    found = ProbeRunner((), 1024, 4096, 4, 6).run(LL2)
    assert sorted(found.seconds) == [1024, 4096] and found.world_size == 2
    assert found.problem == "carried by gloo, not NCCL: every rank needs a GPU of its own"

"""Platform files: what they take over, what a user may write, and that every mistake is one line with its place."""

from __future__ import annotations

import os
from pathlib import Path

import acceptance_folders as folders
import pytest

from roofprobe.acceptance.limits import CHECKS
from roofprobe.ceiling import Platform, choose_platform, find_platform, for_nodes, load_platform, platforms
from roofprobe.errors import BadInput
from roofprobe.probes.accept import main

MINE = """\
base = "gb10"
name = "mine"
title = "my unit"

[checks.gpu-read]
at_least = { value = 228, source = "what this unit read when it was new" }

[checks.gpu-copy]
required = false
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def named(name: str) -> Platform:
    return next(p for p in platforms() if p.name == name)


def test_a_file_takes_over_what_it_does_not_say(tmp_path: Path) -> None:
    mine, base = load_platform(written(tmp_path, MINE)), named("gb10")
    assert mine.memory == base.memory and mine.link == base.link and mine.match == base.match
    assert set(mine.checks) == set(base.checks)
    read = mine.checks["gpu-read"]
    assert read.at_least is not None and read.at_least.value == 228 and read.at_least.fraction is None
    assert read.suspect_above == base.checks["gpu-read"].suspect_above, "tables merge key by key"
    assert mine.checks["gpu-copy"].required is False
    assert mine.checks["gpu-copy"].at_least == base.checks["gpu-copy"].at_least


def test_a_users_file_judges_a_run(tmp_path: Path) -> None:
    folder = folders.save(folders.gb10_run(), tmp_path / "run")
    assert main(["--platform", str(written(tmp_path, MINE)), "--from", str(folder)]) == 0
    strict = MINE.replace("228", "240").replace("my unit", "stricter")
    assert main(["--platform", str(written(tmp_path, strict)), "--from", str(folder)]) == 1


def test_gb10s_figures_are_written_once() -> None:
    folder = Path(__file__).parent.parent / "src" / "roofprobe" / "data" / "platforms"
    holding = [path.name for path in folder.glob("*.toml") if "273.1" in path.read_text()]
    assert holding == ["gb10.toml"]


@pytest.mark.parametrize("maker", ["dgx-spark", "asus-ascent-gx10", "dell-pro-max-gb10", "lenovo-thinkstation-pgx"])
@pytest.mark.parametrize(
    ("nodes", "cluster"), [(2, "gb10-cluster-2"), (3, "gb10-cluster-3-ring"), (4, "gb10-cluster-4-switch")]
)
def test_units_of_every_make_form_the_clusters(maker: str, nodes: int, cluster: str) -> None:
    assert for_nodes(choose_platform(maker), nodes).name == cluster
    assert for_nodes(choose_platform(cluster), nodes).name == cluster


def test_three_units_are_a_ring_unless_a_switch_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folders.save(folders.gb10_run(), tmp_path)
    assert main(["--platform", "dgx-spark", "--nodes", "3", "--from", str(folder)]) == 3
    assert "or --platform gb10-cluster-3-switch" in capsys.readouterr().err


def test_no_cluster_is_found_for_a_single_machine() -> None:
    clusters = [p for p in platforms() if p.nodes > 1]
    assert {p.name for p in clusters} == {
        *("gb10-cluster-2", "gb10-cluster-3-ring", "gb10-cluster-3-switch", "gb10-cluster-4-switch"),
    }
    for product in (None, "Another Maker Box", "gb10-cluster-2", "2 GB10 units and a cable"):
        found = find_platform("NVIDIA GB10", product)
        assert found is not None and found.nodes == 1
    assert all(p.is_gb10 for p in clusters)


def test_a_ring_and_a_switch_have_their_own_pass_marks() -> None:
    marks = {}
    for name in ("gb10-cluster-2", "gb10-cluster-3-ring", "gb10-cluster-3-switch"):
        at_least = named(name).checks["all-gather-busbw"].at_least
        assert at_least is not None
        marks[name] = at_least.value
    assert marks == {"gb10-cluster-2": 21.875, "gb10-cluster-3-ring": 10, "gb10-cluster-3-switch": 21.875}


def test_the_generic_platform_goes_with_any_number_of_nodes_and_promises_nothing() -> None:
    generic = for_nodes(choose_platform("generic"), 3)
    assert generic.nodes == 3 and generic.nominal_gb_per_s("device") is None
    limits = [limit for check in generic.checks.values() for limit in (check.at_least, check.at_most) if limit]
    assert limits and all(limit.value is None and limit.of != "nominal" for limit in limits)


@pytest.mark.parametrize(("name", "nodes"), [("h100-sxm", 2), ("dgx-spark", 5), ("gb10-cluster-2", 3)])
def test_no_such_cluster_is_one_line(name: str, nodes: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--platform", name, "--nodes", str(nodes)]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1 and f"--nodes {nodes}" in complaint and "clusters: " in complaint


HEAD = 'base = "gb10"\nname = "mine"\ntitle = "my unit"\n'
SOURCE = 'source = "read on the unit itself"'


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        (HEAD + "extra = 1", "extra", "unknown key"),
        (HEAD + f'memory.nominal_gb_per_s = {{ value = "fast", {SOURCE} }}', "memory.nominal_gb_per_s.value", "'fast'"),
        (HEAD + "memory.nominal_gb_per_s = 273", "memory.nominal_gb_per_s", "expected a table"),
        (HEAD + "memory.nominal_gb_per_s = { value = 273 }", "memory.nominal_gb_per_s.source", "missing"),
        (HEAD + f"memory.nominal_gb_per_s = {{ value = nan, {SOURCE} }}", "memory.nominal_gb_per_s.value", "nan"),
        (HEAD + f"memory.nominal_gb_per_s = {{ value = inf, {SOURCE} }}", "memory.nominal_gb_per_s.value", "inf"),
        (HEAD + f"memory.nominal_gb_per_s = {{ value = -1, {SOURCE} }}", "memory.nominal_gb_per_s.value", "above 0"),
        (HEAD + 'memory.nominal_gb_per_s = { value = 1, source = "" }', "memory.nominal_gb_per_s.source", "''"),
        (HEAD + "checks.gpu-raed.required = true", "checks.gpu-raed", "did you mean 'gpu-read'?"),
        (HEAD + "checks.gpu-read.requird = true", "checks.gpu-read.requird", "unknown key"),
        (HEAD + "checks.gpu-read.required = 'maybe'", "checks.gpu-read.required", "'with-gpu'"),
        (HEAD + "checks.gpu-read = 5", "checks.gpu-read", "expected a table"),
        (HEAD + "checks = 5", "checks", "expected a table"),
        (
            HEAD + f'checks.gpu-read.at_least = {{ fraction = 1.7, of = "nominal", {SOURCE} }}',
            "checks.gpu-read.at_least.fraction",
            "found 1.7; expected a number of at most 1",
        ),
        (
            HEAD + f'checks.gpu-read.at_least = {{ fraction = 0, of = "nominal", {SOURCE} }}',
            "checks.gpu-read.at_least.fraction",
            "above 0",
        ),
        (
            HEAD + 'checks.gpu-read.at_least = { fraction = 0.5, of = "nominal" }',
            "checks.gpu-read.at_least.source",
            "missing",
        ),
        (
            HEAD + f'checks.gpu-read.at_least = {{ fraction = 0.5, of = "copy", {SOURCE} }}',
            "checks.gpu-read.at_least.of",
            "(nominal)",
        ),
        (
            HEAD + f'checks.gpu-read.at_least = {{ fraction = 0.5, of = "peak", {SOURCE} }}',
            "checks.gpu-read.at_least.of",
            "'peak'",
        ),
        (
            HEAD + f"checks.gpu-read.at_least = {{ fraction = 0.5, {SOURCE} }}",
            "checks.gpu-read.at_least.of",
            "together",
        ),
        (HEAD + f"checks.gpu-read.at_least = {{ {SOURCE} }}", "checks.gpu-read.at_least", "neither"),
        (
            HEAD + f'checks.gpu-read.at_least = {{ value = 5, fraction = 0.5, of = "nominal", {SOURCE} }}',
            "checks.gpu-read.at_least",
            "both",
        ),
        (
            HEAD + f"checks.gpu-gemv-bf16.at_least = {{ value = 200, {SOURCE} }}",
            "checks.gpu-gemv-bf16.at_least.value",
            "a share",
        ),
        (HEAD + f"checks.telemetry.at_least = {{ value = 5, {SOURCE} }}", "checks.telemetry.at_least", "yes or no"),
        (
            HEAD + f"checks.all-reduce-small.at_least = {{ value = 5, {SOURCE} }}",
            "checks.all-reduce-small.at_least",
            "at_most",
        ),
        (HEAD + "checks.all-reduce-small.required = true", "checks.all-reduce-small.at_most", "missing"),
        (HEAD + "nodes = 0", "nodes", "of at least 1"),
        (HEAD + "nodes = 2.5", "nodes", "2.5"),
        (HEAD + "topology = 'mesh'", "topology", "'cable', 'ring' or 'switch'"),
        (HEAD + "link.halves = true", "link.halves", "true"),
        ('base = "gb11"\nname = "x"', "base", "expected one of"),
        ('base = 3\nname = "x"', "base", "found 3"),
        ('base = "dgx-spark"\nname = "x"\ntitle = "x"', "base", "expected 'gb10'"),
        ('base = "gb10"\nname = "x"', "title", "missing"),
        ('base = "gb10"\nname = "a b"\ntitle = "x"', "name", "'a b'"),
        ('name = "x"\ntitle = "x"\n[match]\n[memory]\nname = "m"\nunified = 1', "memory.unified", "found 1"),
        (
            (
                'name = "x"\ntitle = "x"\n[match]\n[memory]\nname = "m"\nunified = true\n[checks.gpu-read]\n'
                f'at_least = {{ fraction = 0.5, of = "nominal", {SOURCE} }}'
            ),
            "checks.gpu-read",
            "memory.nominal_gb_per_s is not given",
        ),
        ("= 3", "not TOML", "line 1"),
        ("name = 'a'\nname = 'b'", "not TOML", "overwrite"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(
    tmp_path: Path, text: str, place: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, text)
    assert main(["--platform", str(path)]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1, complaint
    assert complaint.startswith(f"roofprobe accept: {path}: {place}: "), complaint
    assert said in complaint, complaint


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"[" * 5000, b"a" * (2 << 20)], ids=["binary", "deep", "larger than a file may be"]
)
def test_a_file_that_is_no_platform_is_one_line(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    assert main(["--platform", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


LIMIT = 'base = "gb10"\nname = "x"\ntitle = "x"\n[checks.gpu-read]\n'
ALONE = 'name = "x"\ntitle = "x"\n[match]\n[memory]\nname = "m"\nunified = false\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LIMIT + 'at_most = { value = 100, source = "a guess of mine" }', "at most at_most, 100"),
        (LIMIT + 'at_least = { value = 250, source = "a guess of mine" }', "at most suspect_above, 240"),
        (
            LIMIT.replace("gpu-read", "contention") + 'at_least = { value = 300, source = "a guess of mine" }',
            "at most the nominal ceiling, 273.1",
        ),
        (
            ALONE + 'nominal_gb_per_s = { value = 9, source = "a guess of mine" }\n'
            '[checks.cpu-read]\nat_least = { fraction = 0.5, of = "nominal", source = "a guess of mine" }',
            "memory.unified is false",
        ),
        (LIMIT + "required = 1", "true, false or 'with-gpu'"),
        (LIMIT.replace('"x"\nt', '"dgx-spark"\nt'), "a shipped platform's"),
        (ALONE, "has no checks"),
        ('base = "gb10"\nname = "x"\ntitle = "x"\nnodes = 2', "no check of a link"),
    ],
    ids=["above at_most", "suspect", "above nominal", "the GPU's nominal", "1", "a taken name", "empty", "no link"],
)
def test_a_file_that_nothing_could_meet_or_that_asks_for_nothing_is_refused(
    tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--platform", str(written(tmp_path, text)), "--from", str(tmp_path)]) == 2
    complaint = capsys.readouterr().err
    assert message in complaint and complaint.count("\n") == 1


def test_a_pipe_is_no_platform_file_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.toml")
    with pytest.raises(BadInput, match="no regular file"):
        load_platform(tmp_path / "x.toml")


def test_units_of_a_file_of_ones_own_keep_its_limits_in_a_cluster(tmp_path: Path) -> None:
    text = LIMIT + 'at_least = { value = 228, source = "a guess of mine" }\n[checks.all-gather-busbw]\n'
    own = choose_platform(str(written(tmp_path, text + 'at_least = { value = 23, source = "a guess of mine" }')))
    pair = for_nodes(own, 2)
    limits = {name: check.at_least.value for name, check in pair.checks.items() if check.at_least is not None}
    assert (pair.name, pair.nodes, pair.topology) == ("x", 2, "cable")
    assert (limits["gpu-read"], limits["all-gather-busbw"]) == (228, 23)
    assert set(pair.checks) == set(named("gb10-cluster-2").checks)


def test_a_folder_and_a_missing_file_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "folder.toml"
    folder.mkdir()
    for path in (folder, tmp_path / "none.toml"):
        assert main(["--platform", str(path)]) == 2
        assert str(path) in capsys.readouterr().err
    assert main(["--platform", "dgx-sparc"]) == 2
    assert "dgx-spark" in capsys.readouterr().err


def test_every_check_is_asked_for_by_some_platform_and_every_file_holds_known_ones() -> None:
    used = {name for p in platforms() for name in p.checks}
    assert used <= set(CHECKS)
    assert {name for name in CHECKS if name.startswith(("gpu-", "link-", "all-"))} <= used


def test_a_platform_of_no_base_is_complete_in_itself(tmp_path: Path) -> None:
    text = 'name = "x"\ntitle = "x"\n[match]\ngpu = ["X 1"]\n[memory]\nname = "m"\nunified = false\n'
    assert load_platform(written(tmp_path, text)).checks == {}
    with pytest.raises(BadInput, match="match"):
        load_platform(written(tmp_path, 'name = "x"\ntitle = "x"\nmemory = { name = "m", unified = true }'))

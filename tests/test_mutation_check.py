"""The list of planted bugs fits the code, and the tool that plants them tells a caught bug from a survivor."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
import sys
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


tool = _load(ROOT / "scripts" / "mutation_check.py")
MUTANTS = _load(ROOT / "tests" / "mutants.py").MUTANTS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_a_planted_bug_fits_the_code(mutant: tool.Mutant) -> None:  # type: ignore[name-defined]
    assert tool.misfit(ROOT, mutant) is None
    source = (ROOT / mutant.file).read_text()
    changed = source.replace(mutant.old, mutant.new)
    assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source)), "the bug changes what the code does"
    assert mutant.why and mutant.tests
    for selection in mutant.tests:
        file, *names = selection.split("::")
        defined = {node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if hasattr(node, "name")}
        assert {name.partition("[")[0] for name in names} <= defined, f"no such test: {selection}"


def test_the_list_is_long_enough_and_names_are_unique() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(names) == len(set(names)) >= 20


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with one kernel, a test that knows its sign and one that knows nothing."""
    for folder in ("src", "kernels", "tests"):
        (tmp_path / "tree" / folder).mkdir(parents=True)
    root = tmp_path / "tree"
    (root / "src" / "tiny.py").write_text("def twice(x):\n    return x + x\n")
    (root / "tests" / "test_sign.py").write_text(
        "import tiny\n\n\ndef test_sign():\n    assert tiny.twice(1) > 0\n\n\ndef test_nothing():\n    pass\n"
    )
    (root / "tests" / "test_broken.py").write_text("def test_broken():\n    assert False\n")
    return root


def mutant(name: str = "bug", **changes: object) -> tool.Mutant:  # type: ignore[name-defined]
    fields = {"file": "src/tiny.py", "old": "x + x", "new": "-x - x", "tests": ("tests/test_sign.py",), "why": "w"}
    return tool.Mutant(name, **{**fields, **changes})


def test_verdicts(tree: Path) -> None:
    outcomes = tool.check(
        tree,
        [
            mutant("a caught one"),
            mutant("one that no test sees", new="3 * x"),
            mutant("one whose text is gone", old="x * 2"),
            mutant("one in a missing file", file="src/none.py"),
            mutant("one whose text is twice there", old="x"),
            mutant("one that does not parse", new="x +"),
            mutant("one whose tests fail anyway", tests=("tests/test_broken.py",)),
            mutant("one whose tests are not there", tests=("tests/test_sign.py::test_none",)),
            mutant("another caught one", new="-2 * x"),
        ],
        jobs=2,
    )
    assert {o.name: o.verdict for o in outcomes} == {
        "a caught one": tool.CAUGHT,
        "one that no test sees": tool.SURVIVED,
        "one whose text is gone": tool.BROKEN,
        "one in a missing file": tool.BROKEN,
        "one whose text is twice there": tool.BROKEN,
        "one that does not parse": tool.BROKEN,
        "one whose tests fail anyway": tool.BROKEN,
        "one whose tests are not there": tool.BROKEN,
        "another caught one": tool.CAUGHT,
    }
    assert (tree / "src" / "tiny.py").read_text() == "def twice(x):\n    return x + x\n", (
        "the tree itself is left alone"
    )
    assert [p.name for p in tree.rglob("__pycache__")] == []


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [(["caught"], 0), (["caught", "SURVIVED"], 1), (["SURVIVED", "ERROR"], 2), ([], 0)],
)
def test_exit_status(verdicts: list[str], status: int) -> None:
    assert tool.exit_status([tool.Outcome("x", verdict, 0) for verdict in verdicts]) == status


def test_a_test_run_that_hangs_counts_as_caught_and_says_so(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "TIMEOUT_SECONDS", 2)
    (tree / "src" / "tiny.py").write_text("import time\n\n\ndef twice(x):\n    time.sleep(0)\n    return x\n")
    outcome = tool.try_mutant(tree, mutant(old="time.sleep(0)", new="time.sleep(60)"))
    assert (outcome.verdict, outcome.detail) == (tool.CAUGHT, "ran longer than 2 s") and outcome.seconds < 30
    assert "time.sleep(0)" in (tree / "src" / "tiny.py").read_text()

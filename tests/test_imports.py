"""Imports run one way, core <- kernels, collectives <- probes; and what a person waits for stays light."""

import ast
from pathlib import Path
import re
import subprocess
import sys

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "roofprobe"
FOLDERS = ("kernels", "collectives", "probes")
MAY_IMPORT = {
    "core": {"core"},
    "kernels": {"core", "kernels"},
    "collectives": {"core", "collectives"},
    "probes": {"core", "kernels", "collectives", "probes"},
}
MODULE_NAME = re.compile(r"roofprobe(\.\w+)+")


def room_of(module: str) -> str | None:
    """The room of a dotted name: a bare `kernels` counts as kernels, anything outside this project as None."""
    parts = module.split(".")
    if parts[0] in FOLDERS:
        return parts[0]
    if parts[0] != "roofprobe":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in FOLDERS else "core"


def imported_names(tree: ast.AST, package: str, count_text: bool) -> set[str]:
    """Every module that a source imports, at any depth, relative names resolved; if asked, also those named as text."""
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                names.update(alias.name for alias in node.names)
            case ast.ImportFrom():
                parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
                base = ".".join([*parents, *([node.module] if node.module else [])])
                names.update(f"{base}.{alias.name}" for alias in node.names)
            case ast.Constant(value=str(text)) if count_text and MODULE_NAME.fullmatch(text):
                names.add(text)
    return names


def core_files(package: Path) -> list[Path]:
    """The package's own, and those of its folders that are no link to a room at the root."""
    folders = [each for each in package.iterdir() if each.is_dir() and each.name not in FOLDERS]
    return [*package.glob("*.py"), *(path for folder in folders for path in folder.glob("*.py"))]


def violations(package: Path) -> list[str]:
    """`room/file imports module` for each import against the direction, in a tree laid out like src/roofprobe."""
    found = []
    for room, allowed in MAY_IMPORT.items():
        folder = package if room == "core" else package / room
        dotted = "roofprobe" if room == "core" else f"roofprobe.{room}"
        for path in sorted(core_files(folder) if room == "core" else folder.glob("*.py")):
            # The command line names each probe as text and imports it on use.
            names = imported_names(ast.parse(path.read_text()), dotted, count_text=path != package / "cli.py")
            against = sorted(name for name in names if room_of(name) not in {None, *allowed})
            found += [f"{room}/{path.name} imports {name}" for name in against]
    return found


def test_imports_run_one_way() -> None:
    assert violations(PACKAGE) == []


def test_the_check_reads_every_room() -> None:
    assert {path.parent.name for path in core_files(PACKAGE)} >= {"roofprobe", "doctor", "acceptance", "comparison"}
    for folder in FOLDERS:
        assert list((PACKAGE / folder).glob("*.py")), f"nothing to check in {PACKAGE / folder}"


@pytest.mark.parametrize(
    ("where", "source", "name"),
    [
        ("timing.py", "from roofprobe.probes.memory import main", "roofprobe.probes.memory.main"),
        ("timing.py", "import roofprobe.kernels.stream", "roofprobe.kernels.stream"),
        ("timing.py", "def f():\n    from roofprobe import kernels", "roofprobe.kernels"),
        ("timing.py", "from .collectives import busbw", "roofprobe.collectives.busbw"),
        ("timing.py", "import_module('roofprobe.probes.run')", "roofprobe.probes.run"),
        ("kernels/a.py", "from roofprobe.collectives.busbw import factor", "roofprobe.collectives.busbw.factor"),
        ("kernels/a.py", "from ..probes import memory", "roofprobe.probes.memory"),
        ("collectives/a.py", "from kernels import stream", "kernels.stream"),
        (
            "collectives/a.py",
            "if TYPE_CHECKING:\n    from roofprobe.kernels.formats import X",
            "roofprobe.kernels.formats.X",
        ),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, where: str, source: str, name: str) -> None:
    for folder in FOLDERS:
        (tmp_path / folder).mkdir()
    (tmp_path / "probes" / "fine.py").write_text(
        "from roofprobe.kernels.a import b\nfrom roofprobe.collectives import c\n"
    )
    (tmp_path / "kernels" / "fine.py").write_text("import torch\nfrom roofprobe.timing import x\nfrom . import y\n")
    (tmp_path / where).write_text(source)
    room, _, file = where.rpartition("/")
    assert violations(tmp_path) == [f"{room or 'core'}/{file} imports {name}"]


@pytest.mark.parametrize("folder", [*FOLDERS, "tests", "tests/benchmarks"])
def test_no_folder_at_the_root_is_a_package(folder: str) -> None:
    """With an __init__.py, a bare `import kernels` from the root would find ours, not the package of that name."""
    assert not (ROOT / folder / "__init__.py").exists()


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_package_reaches_the_folder_through_a_relative_link(folder: str) -> None:
    assert (PACKAGE / folder).readlink() == Path("..", "..", folder)


def test_no_probe_hides_a_standard_module() -> None:
    """`python probes/x.py` puts probes/ first on the path: a profile.py in it would break cProfile."""
    assert {path.stem for path in (ROOT / "probes").glob("*.py")} & sys.stdlib_module_names == set()


@pytest.mark.parametrize("statement", ["import roofprobe.cli", "from roofprobe.cli import main; main(['--help'])"])
def test_the_command_line_loads_nothing_heavy(statement: str) -> None:
    report = (
        f"import sys\ntry:\n    {statement}\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'numba', 'triton', 'matplotlib', 'scipy', 'roofprobe.probes'}\n"
        "print('LOADED', *sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", report], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED"

"""What is in the built wheel: the linked folders, the data, the metadata, and nothing at the top but roofprobe."""

from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
import os
from pathlib import Path
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest

from roofprobe import __version__

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "roofprobe"
LEFTOVERS = (".*", "build", "dist", "results", "*.egg-info", "__pycache__")


@pytest.fixture(scope="module", params=["wheel from the tree", "wheel from the source archive"])
def wheel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """Built in a copy, since setuptools leaves build/ behind, and with the environment's own setuptools: no network."""
    folder = tmp_path_factory.mktemp("packaging")
    tree = shutil.copytree(ROOT, folder / "tree", symlinks=True, ignore=shutil.ignore_patterns(*LEFTOVERS))
    what = ["--wheel"] if request.param == "wheel from the tree" else []  # without a flag: archive, then wheel from it
    command = [sys.executable, "-P", "-m", "build", "--no-isolation", *what, "--outdir", str(folder / "out"), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (path,) = (folder / "out").glob("*.whl")
    assert path.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


@pytest.mark.parametrize("folder", ["kernels", "collectives", "probes"])
def test_every_module_of_a_linked_folder_is_in(wheel: zipfile.ZipFile, folder: str) -> None:
    modules = {path.name: path.read_bytes() for path in (ROOT / folder).glob("*.py")}
    assert modules, f"{folder}/ is empty"
    inside = {Path(name).name: wheel.read(name) for name in wheel.namelist() if name.startswith(f"roofprobe/{folder}/")}
    assert inside == modules


def test_every_data_file_is_in(wheel: zipfile.ZipFile) -> None:
    files = {str(path.relative_to(PACKAGE.parent)) for path in (PACKAGE / "data").rglob("*") if path.is_file()}
    files = {name for name in files if "__pycache__" not in name}
    assert files
    assert files <= set(wheel.namelist())
    assert "roofprobe/py.typed" in wheel.namelist()


def test_nothing_else_lands_beside_the_package(wheel: zipfile.ZipFile) -> None:
    """An import package called `kernels` would overwrite another project's; so would `tests`."""
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"roofprobe"}
    assert not [name for name in wheel.namelist() if Path(name).name.startswith(("test_", "conftest"))]


def test_metadata(wheel: zipfile.ZipFile) -> None:
    fields = metadata(wheel)
    assert fields["Name"] == "roofprobe"
    assert fields["Requires-Python"] == ">=3.11"
    assert fields["License-Expression"] == "Apache-2.0"
    assert {"cuda12", "cuda13", "test"} == set(fields.get_all("Provides-Extra", []))
    requirements = fields.get_all("Requires-Dist", [])
    assert [r for r in requirements if r.startswith("cupy-cuda13x[ctk]") and r.endswith('extra == "cuda13"')]
    (licence,) = (name for name in wheel.namelist() if name.endswith(".dist-info/licenses/LICENSE"))
    assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()
    (entry_points,) = (name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt"))
    assert "roofprobe = roofprobe.cli:main" in wheel.read(entry_points).decode()


def test_the_unpacked_wheel_runs_by_itself(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    code = "import roofprobe.cli, roofprobe.kernels, sys; print(roofprobe.__file__, *roofprobe.kernels.__path__)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(tmp_path / "roofprobe" / "__init__.py"), str(tmp_path / "roofprobe" / "kernels")]


def test_the_version_is_the_same_wherever_it_stands() -> None:
    """A clone that is not installed has only the package's own."""
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == __version__

"""Prints what an interpreter lacks of a project's requirements, quoted for a shell: `python THIS PYPROJECT [EXTRA]`.

Runs on the interpreter in question, so nothing but the standard library and `packaging` (or pip's copy of it) is used.
"""

from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
import shlex
import sys
import tomllib

try:
    from packaging.requirements import Requirement
    from packaging.version import Version
except ImportError:
    from pip._vendor.packaging.requirements import Requirement
    from pip._vendor.packaging.version import Version

MODULES = {"nvidia-ml-py": "pynvml"}  # where the import's name is not the package's


def installed_version(package: str) -> Version | None:
    """The version found, or None. A vendor may ship a module under a package name of its own (pytorch-triton)."""
    try:
        return Version(version(package))
    except PackageNotFoundError:
        module = MODULES.get(package, package.replace("-", "_"))
        owners = packages_distributions().get(module, [])
        return Version(version(owners[0])) if owners else None


def is_met(requirement: Requirement) -> bool:
    """Whether a version that will do is installed. Vendor builds of 2.11 call themselves 2.11.0a0+…: they count."""
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    found = installed_version(requirement.name)
    return found is not None and requirement.specifier.contains(found.base_version)


def main(pyproject: str, extra: str | None = None) -> None:
    project = tomllib.loads(Path(pyproject).read_text())["project"]
    wanted = [*project["dependencies"]]
    if extra is not None:
        wanted += project["optional-dependencies"][extra]
    missing = [r for r in map(Requirement, wanted) if not is_met(r)]
    print(*(shlex.quote(f"{r.name}{r.specifier}") for r in missing))


if __name__ == "__main__":
    main(*sys.argv[1:])

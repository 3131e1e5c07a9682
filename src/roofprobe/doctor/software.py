"""Which software a recorded host ran, and what follows from it: its platform, and whether its ptxas knows GB10."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
import re
from typing import Any, TypeVar

import msgspec

from roofprobe.ceiling import Platform, find_platform, product_platform
from roofprobe.doctor.host import Software
from roofprobe.environment import dotted, driver_version, nccl_code, product_name
from roofprobe.errors import BadInput
from roofprobe.files import open_regular
from roofprobe.recording import MAX_RECORDING_BYTES
from roofprobe.tree import Tree

_GPUS = "/proc/driver/nvidia/gpus"
_EXPECTED = "expected a host's software as `roofprobe doctor capture` writes it"
_VERSIONS = ("driver", "cuda", "torch", "triton", "ptxas", "nccl_loaded")
_Kind = TypeVar("_Kind")
SM_121_SINCE = 12, 9
"""The first CUDA whose ptxas knows GB10's sm_121. Source: PTX ISA, release notes of 8.8."""


@dataclass(frozen=True)
class Told:
    """What a recording says beside its tree."""

    software: Software
    environment: dict[str, str]
    """NCCL's variables of the process that recorded."""


class _Document(msgspec.Struct, frozen=True):
    """A JSON recording's own keys."""

    software: dict[str, Any] = {}
    software_json: dict[str, Any] = msgspec.field(default_factory=dict, name="software.json")
    environment: dict[str, str] = {}


def read_told(path: Path, tree: Tree) -> Told:
    """The key ``software`` of a JSON recording, or ``software.json`` in its tree; the driver's files complete it.

    Raises BadInput naming the file and what is wrong with it.
    """
    document = _Document() if path.is_dir() else _decode(_content(path), _Document, path)
    written = document.software_json or document.software
    inside = tree.read("/software.json")
    if isinstance(inside, bytes) and inside.strip():
        path = path / "software.json"
        written = _decode(inside, dict[str, Any], path)
    return Told(completed(_software(written, path), tree), document.environment)


def platform_of(software: Software, tree: Tree) -> Platform | None:
    """The platform that a host's software names, or else that its GPU and its firmware's product name match."""
    product = " ".join(part for part in (software.platform, product_name(tree)) if part)
    gpu = "NVIDIA GB10" if re.search(r"\bGB10\b", software.gpu or "") else software.gpu
    named = product_platform(software.platform) if software.platform else None
    return named or find_platform(gpu, product) or (None if gpu else product_platform(product))


def ptxas_version(text: str) -> tuple[int, int] | None:
    """CUDA's (major, minor) in what ``ptxas --version`` writes, or in the number alone."""
    found = re.search(r"(?:release |V|^\D*)(\d{1,3})\.(\d{1,3})", text)
    return None if found is None else (int(found[1]), int(found[2]))


def knows_sm_121(ptxas: str) -> bool | None:
    """Whether a ptxas of this version can compile for GB10; None where its version can't be read."""
    found = ptxas_version(ptxas)
    return None if found is None else found >= SM_121_SINCE


def _content(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read(MAX_RECORDING_BYTES)
    except OSError as error:
        raise BadInput(f"can't read {path}: {error.strerror}; expected a folder or a JSON recording") from None


def _software(written: dict[str, Any], path: Path) -> Software:
    code = written.get("nccl_loaded")
    if isinstance(code, int) and not isinstance(code, bool):
        written = {**written, "nccl_loaded": dotted(nccl_code(code))}
    # A version of one or two parts looks like a number, and is easily written as one.
    written |= {name: str(found) for name in _VERSIONS if type(found := written.get(name)) in (int, float)}
    try:
        return msgspec.convert(written, Software)
    except msgspec.ValidationError as error:
        raise BadInput(f"{path}: {error}; {_EXPECTED}") from None


def _decode(content: bytes, kind: type[_Kind], path: Path) -> _Kind:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{path}: {error}; {_EXPECTED}") from None


def completed(software: Software, tree: Tree) -> Software:
    """What the driver's own files say where `software` does not."""
    named = (tree.text(f"{_GPUS}/{gpu}/information") for gpu in tree.children(_GPUS))
    models = (re.search(r"^Model:\s*(\S.*?)\s*$", text or "", re.MULTILINE) for text in named)
    gpu = software.gpu or next((model[1] for model in models if model), None)
    return msgspec.structs.replace(software, gpu=gpu, driver=software.driver or driver_version(tree))

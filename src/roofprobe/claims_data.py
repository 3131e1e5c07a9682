"""Published claims as data (data/claims.toml), and what each is to be judged by.

A claim is one quantitative statement of one document, in our words: `figure` is its number, or both ends of its
range. `judge` says which arithmetic decides it, with everything that this arithmetic needs; a claim that none decides
says what would. Claims that share a topic are about the same thing, and so can disagree.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
import tomllib
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from roofprobe.errors import BadInput
from roofprobe.models import find_model
from roofprobe.weight_formats import Format

CLAIMS_FILE = Path(__file__).parent / "data" / "claims.toml"

Number: TypeAlias = int | float
Count = Annotated[int, Meta(ge=1)]
Name = Annotated[str, Meta(min_length=1)]
Relation = Literal["is", "at most", "at least"]
"""How the figure should stand to what the sum gives."""
Fact = Literal[
    "parameters", "active parameters", "layers", "full-attention layers", "key/value heads", "weights", "read",
    "cache", "weights and cache",
]  # fmt: skip


class _Judge(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="by"):
    """What decides a claim; `note` is added to the arithmetic."""

    note: str | None = None


class Rate(_Judge, frozen=True, kw_only=True, tag="rate"):
    """Tokens/s of one stream of the claim's model with an empty cache: no more than memory and link allow."""

    system: str = "gb10"
    """Or another name in data/systems.toml."""
    parallelism: Literal["tp"] | None = None
    """Where the document says how the units work together; None: the better way."""


class Fits(_Judge, frozen=True, kw_only=True, tag="fits"):
    """Weights and cache of the claim's model: no more than the memory of its units."""

    context: Annotated[int, Meta(ge=0)] = 0
    memory_gb: float | None = None
    """Of a machine that is no GB10."""


class ModelFact(_Judge, frozen=True, kw_only=True, tag="fact"):
    """Something that the claim's model has, in 1e9 weights, GB or pieces: the figure should be it."""

    what: Fact
    context: Annotated[int, Meta(ge=0)] = 0


class Sum(_Judge, frozen=True, kw_only=True, tag="sum"):
    """Arithmetic with numbers that `where` explains. Two sums: one for each end of a range."""

    of: str | tuple[str, str]
    where: str
    relation: Relation = "is"


class Speedup(_Judge, frozen=True, kw_only=True, tag="speedup"):
    """How many times as fast the claim's units are as one, under tensor parallelism, for the model `of`."""

    of: str


class Open(_Judge, frozen=True, kw_only=True, tag="open"):
    """What arithmetic can't decide; `needs` would. `of` is a sum that nevertheless says something."""

    needs: str
    of: str | None = None
    where: str | None = None


Judge: TypeAlias = Rate | Fits | ModelFact | Sum | Speedup | Open


class Claim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One statement. `about`: the document says roughly."""

    id: Name
    line: Count
    """Of the document."""
    text: Name
    figure: Number | tuple[Number, Number]
    unit: Name
    judge: Judge
    about: bool = False
    model: str | None = None
    format: Format | None = None
    """None where the document does not say."""
    units: Count | None = None
    topics: tuple[Name, ...] = ()

    @property
    def ends(self) -> tuple[Number, ...]:
        """The figure, or both ends of it."""
        return self.figure if isinstance(self.figure, tuple) else (self.figure,)


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One document with its claims, in its order."""

    name: Name
    title: Name
    claims: tuple[Claim, ...]


class ClaimsFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every document; `published`: the formats that each model can be had in."""

    published: dict[str, tuple[Format, ...]]
    documents: tuple[Document, ...]


def load_claims(path: Path) -> ClaimsFile:
    """Reads a claims file. Raises BadInput naming the file, the field, what was expected and what was found."""
    try:
        found = msgspec.convert(tomllib.loads(path.read_text()), ClaimsFile)
    except OSError as error:
        raise BadInput(f"can't read claims file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise BadInput(f"{path}: {error}") from None
    ids = set()
    for claim in (c for document in found.documents for c in document.claims):
        if claim.id in ids:
            raise BadInput(f"{path}: two claims are called {claim.id}; every id must be one claim's")
        if isinstance(claim.judge, Rate | Fits | ModelFact) and claim.model is None:
            raise BadInput(f"{path}: {claim.id} is judged by its model, but names none")
        if claim.model is not None:
            find_model(claim.model)
        ids.add(claim.id)
    return found


@cache
def claims_file() -> ClaimsFile:
    """The claims that ship with roofprobe."""
    return load_claims(CLAIMS_FILE)

"""Published claims: all five documents, every verdict, and sums that a reader can do again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
import re
import sqlite3

import pytest

from roofprobe.claims import Judged, favourable_format, judge_all
from roofprobe.claims_data import CLAIMS_FILE, claims_file, load_claims
from roofprobe.errors import BadInput
from roofprobe.models import find_model, models
from roofprobe.rate_bounds import GB10, VERDICTS
from roofprobe.sums import add_up
from roofprobe.weight_formats import FORMATS

NOMINAL, READ, USABLE = 273.1, 240.0, 121.6 * 2**30 / 1e9

# As many as a reader of the documents found; fewer only where one turns out to be no claim.
LEAST = {
    "000_e865ed188b96164b.txt": 32,
    "001_44c8e32581abac25.txt": 51,
    "002_6d7bf770eef44cb1.txt": 41,
    "003_00768f2c2bc96558.txt": 81,
    "004_78fd91a163441ee8.txt": 16,
}


@pytest.fixture(scope="module")
def judged() -> dict[str, Judged]:
    return {j.claim.id: j for j in judge_all(claims_file(), GB10)}


def test_every_document_is_covered(judged: dict[str, Judged]) -> None:
    counts = Counter(j.document for j in judged.values())
    assert counts.keys() == LEAST.keys()
    assert all(counts[name] >= least for name, least in LEAST.items()), counts


def test_claims_stand_in_their_documents_order() -> None:
    for document in claims_file().documents:
        lines = [claim.line for claim in document.claims]
        assert lines == sorted(lines)
        assert all(claim.id.startswith(f"{document.name[:3]}-{claim.line}-") for claim in document.claims)


def test_every_verdict_occurs(judged: dict[str, Judged]) -> None:
    assert {j.verdict for j in judged.values()} == set(VERDICTS)


# Bytes a token from the architectures, in GB: Llama 3.1 70B has 8192 x (10240 + 8192 + 3 * 28672) weights in each of
# 80 layers and a head of 128256 x 8192 in BF16; Qwen3.5's IQ4_XS is 4.25 bits for each of the 16.329e9 that it reads.
LLAMA_LINEAR = 80 * 8192 * (10240 + 8192 + 3 * 28672) / 1e9
LLAMA_HEAD = 128256 * 8192 / 1e9
LLAMA_FP8 = LLAMA_LINEAR + 2 * LLAMA_HEAD
LLAMA_IQ4 = (LLAMA_LINEAR + LLAMA_HEAD) * 4.25 / 8
QWEN_IQ4 = 16.329 * 4.25 / 8 + 2 * 45 * 64 * 128 * 128 * 4 / 1e9
GPT_AS_SHIPPED = (36 * 4 * 3 * 2880 * 2880 * 4.25 + 16 * (36 * 2880 * (5120 + 4096 + 128) + 201088 * 2880)) / 8e9


@pytest.mark.parametrize(
    ("claim", "verdicts", "figures"),
    [
        pytest.param("000-54-dense-70b-fp8", ["impossible"], [NOMINAL / LLAMA_FP8], id="above the nominal ceiling"),
        pytest.param("002-19-one-unit-dense", ["plausible"], [NOMINAL / LLAMA_FP8, READ / LLAMA_FP8], id="below both"),
        pytest.param(
            "002-19-two-units-dense",
            ["plausible"],
            [2 * NOMINAL / LLAMA_FP8, 1 / (LLAMA_FP8 / (2 * READ) + 160 * 30e-6)],
            id="two units with their link",
        ),
        pytest.param(
            "000-22-dense-70b-q4",
            ["implausible", "impossible"],
            [NOMINAL / LLAMA_IQ4, READ / LLAMA_IQ4],
            id="a range across both ceilings",
        ),
        pytest.param(
            "002-35-rate",
            ["plausible", "implausible"],
            [2 * NOMINAL / QWEN_IQ4, 1 / (QWEN_IQ4 / (2 * READ) + 120 * 30e-6)],
            id="a range across the link's cost",
        ),
        pytest.param("002-36-rate", ["impossible", "impossible"], [32, 3], id="heads that do not divide"),
        pytest.param("001-61-pro6000-dense", ["plausible"], [1792 / LLAMA_IQ4], id="another machine's memory"),
        pytest.param(
            "000-59-speedup",
            ["plausible"],
            [(GPT_AS_SHIPPED / READ) / (GPT_AS_SHIPPED / (2 * READ) + 72 * 30e-6)],
            id="a speed-up",
        ),
        pytest.param("003-16-unquantized", ["impossible"], [801.4, 402.8], id="does not fit, and what would"),
        pytest.param("003-81-spark-70b", ["impossible"], [(LLAMA_LINEAR + 2 * LLAMA_HEAD) * 2, USABLE], id="BF16 70B"),
        pytest.param("003-81-largest", ["impossible"], [673, 4], id="DeepSeek as shipped"),
        pytest.param("002-35-fits", ["plausible"], [131072, 2], id="fits with its cache"),
        pytest.param("002-31-cache-128k", ["plausible"], [131072 * 15 * 2 * 2 * 256 * 2 / 1e9], id="a cache"),
        pytest.param("002-27-iq4-xs", ["plausible"], [396.34 * 4.25 / 8], id="a file"),
        pytest.param("001-30-three-price", ["plausible"], [3 * 2477 + 50], id="a bill"),
        pytest.param("000-39-saving", ["impossible"], [3 * 3503 - 3 * 2477], id="a bill that is one franc off"),
        pytest.param("003-29-discount", ["plausible"], [100 - 3266 / 46.99], id="a discount, rounded"),
        pytest.param("003-29-savings", ["plausible"], [4 * 4699 - 4 * 3266], id="a saving"),
        pytest.param("003-22-tco-cloud", ["impossible"], [24 * 720 * 12], id="two years of a cloud"),
        pytest.param("003-20-pays", ["plausible"], [18796 / 2160], id="months to break even"),
        pytest.param("003-29-fifth", ["impossible"], [5732 / 4699], id="more than almost"),
        pytest.param("003-42-link", ["impossible"], [252.1], id="more than the lanes behind it"),
        pytest.param("004-25-link", ["plausible", "impossible"], [252.1], id="a range across the lanes"),
        pytest.param("001-66-memory-range", ["plausible", "plausible"], [256, 384], id="a range with a sum an end"),
        pytest.param("003-60-decode-mac", ["undecidable"], [100 * (800 / 273 - 1)], id="undecidable, yet telling"),
        pytest.param("000-18-price", ["undecidable"], [], id="a price"),
    ],
)
def test_a_claim_by_independent_arithmetic(
    judged: dict[str, Judged], claim: str, verdicts: list[str], figures: list[float]
) -> None:
    found = judged[claim]
    assert list(found.ends) == verdicts
    assert found.verdict == min(
        verdicts, key=lambda v: ["impossible", "implausible", "undecidable", "plausible"].index(v)
    )
    printed = [float(n.replace(",", "")) for n in re.findall(r"\d[\d,]*(?:\.\d+)?", found.arithmetic)]
    for figure in figures:
        assert any(n == pytest.approx(figure, rel=5e-3) for n in printed), f"{figure} in {found.arithmetic}"


def test_the_sums_that_are_printed_are_right(judged: dict[str, Judged]) -> None:
    """What stands before each ``=`` gives what stands after it, to the digits that are printed."""
    checked = 0
    database = sqlite3.connect(":memory:")
    for j in judged.values():
        text = re.sub(r"([\d.]+) us\b", r"\1e-6", j.arithmetic.replace(",", ""))
        text = re.sub(r" GB( of cache at \d+ tokens)?(?= [+=])", "", text)
        for left, right in re.findall(r"((?:[(\d.][\d.()e-]* [*/x+-] )+[(\d.][\d.()e-]*) = (\d+(?:\.\d+)?)", text):
            term = left.replace("x", "*").removeprefix("(" * (left.count("(") - left.count(")")))
            # SQL's arithmetic shares no code with ours; its integers, unlike people's, divide to integers.
            (value,) = database.execute("SELECT " + re.sub(r"(?<![\d.e-])(\d+)(?![\d.e])", r"\1.0", term)).fetchone()
            assert value == pytest.approx(float(right), rel=6e-3), f"{j.claim.id}: {left} = {right}"
            checked += 1
    assert checked > 180


def test_a_claim_without_a_format_has_the_most_favourable_one_named(judged: dict[str, Judged]) -> None:
    found = judged["002-17-one-unit"]
    assert found.claim.format is None
    assert found.format == "mxfp4-all"
    assert "no format stated, mxfp4-all taken" in found.arithmetic


@pytest.mark.parametrize("name", [model.name for model in models()])
def test_published_formats_are_known(name: str) -> None:
    published = claims_file().published[name]
    assert set(published) <= set(FORMATS)
    assert favourable_format(claims_file(), find_model(name)) in published


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("000-18-price", "003-29-spark-price"),
        ("000-18-price", "001-50-spark-4tb"),
        ("000-15-power", "001-11-power"),
        ("000-22-dense-70b-q4", "002-19-one-unit-dense"),
        ("000-54-dense-70b-fp8", "002-19-one-unit-dense"),
        ("003-42-link", "004-32-link"),
        ("000-17-cluster", "003-44-four"),
    ],
)
def test_documents_that_disagree_say_so(judged: dict[str, Judged], one: str, other: str) -> None:
    assert other in judged[one].disagrees_with
    assert one in judged[other].disagrees_with


def test_figures_that_agree_by_rounding_do_not_disagree(judged: dict[str, Judged]) -> None:
    assert judged["000-53-slower"].claim.topics == judged["001-66-bandwidth-ratio"].claim.topics
    assert not judged["000-53-slower"].disagrees_with


@pytest.mark.parametrize(
    ("text", "value"), [("3 * 2477 + 50", 7481), ("100 * (1 - 3266 / 4699)", 30.4958), ("2 - 3 - 4", -5)]
)
def test_sums_add_up(text: str, value: float) -> None:
    assert add_up(text) == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("text", ["", "2 +", "2 ** 9", "abs(2)", "x", "'a' * 3", "True + 1", "1 / 0", "[1][0]", "1j"])
def test_what_is_no_sum_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="not a sum"):
        add_up(text)


DOCUMENT = """
[published]
[[documents]]
name = "a.txt"
title = "A"
"""
CLAIM = """
[[documents.claims]]
id = "one"
line = 1
text = "A unit decodes fast"
figure = 5
unit = "tok/s"
"""


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        pytest.param(CLAIM + 'judge = { by = "guess" }', "guess", id="unknown judge"),
        pytest.param(CLAIM + 'judge = { by = "rate" }', "names none", id="a rate without a model"),
        pytest.param(CLAIM + 'model = "gpt"\njudge = { by = "rate" }', "no model 'gpt'", id="unknown model"),
        pytest.param(2 * (CLAIM + 'judge = { by = "open", needs = "a look" }\n'), "called one", id="an id twice"),
        pytest.param(CLAIM + "guess = 3", "guess", id="unknown field"),
        pytest.param(
            CLAIM.replace("5", "[5, 6, 7]") + 'judge = { by = "open", needs = "a look" }', "figure", id="3 ends"
        ),
        pytest.param("[[", "", id="no TOML"),
    ],
)
def test_a_bad_claims_file_is_refused(tmp_path: Path, claims: str, said: str) -> None:
    path = tmp_path / "claims.toml"
    path.write_text(DOCUMENT + claims)
    with pytest.raises(BadInput, match=said or re.escape(str(path))):
        load_claims(path)


def test_an_unknown_system_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "claims.toml"
    path.write_text(DOCUMENT + CLAIM + 'model = "gpt-oss-20b"\njudge = { by = "rate", system = "abacus" }')
    with pytest.raises(BadInput, match="no system 'abacus'"):
        judge_all(load_claims(path), GB10)


def test_the_shipped_file_names_every_model() -> None:
    assert set(claims_file().published) == {model.name for model in models()}
    assert CLAIMS_FILE.is_file()

"""``roofprobe claims``: published figures against what memory, link and arithmetic allow."""

from __future__ import annotations

import argparse
import json
from typing import Any

from roofprobe.arguments import existing_file, non_negative_int, parser, positive_int, positive_number
from roofprobe.claims import favourable_format, judge_all
from roofprobe.claims_data import claims_file
from roofprobe.claims_limits import Held, measured, of_its_own, usual
from roofprobe.claims_page import as_json, as_markdown, as_text, bounds_json
from roofprobe.errors import FAILED, OK, run_command
from roofprobe.models import find_model, models
from roofprobe.rate_bounds import VERDICTS, Bounds, Step, bounds
from roofprobe.weight_formats import FORMATS, find_format

_VERDICTS = """verdicts:
  impossible   above memory's nominal rate, more than fits, or a sum that does not add up
  implausible  above memory's measured read, or above that with the link's cost
  undecidable  arithmetic can't tell; the claim says what would
  plausible    nothing in arithmetic speaks against it
"""


def main(argv: list[str] | None = None) -> int:
    """Runs ``roofprobe claims`` with `argv`; returns the exit status."""
    top = parser(
        "roofprobe claims",
        "Judge published figures about GB10 systems, each with its arithmetic.",
        f"{_VERDICTS}\nThe list's exit status is 0 whatever it says: the claims are others'.",
    )
    _add_shared(top)
    top.add_argument("--markdown", action="store_true", help="print the page docs/claims.md")
    actions = top.add_subparsers(dest="action", metavar="check")
    check = actions.add_parser(
        "check",
        help="judge a decode rate that you state: roofprobe claims check --help",
        description="Judge one decode rate: can that model decode so fast on so many units?",
        epilog=f"{_VERDICTS}\nmodels: {', '.join(model.name for model in models())}\nformats: {', '.join(FORMATS)}\n\n"
        "Exit status: 0 plausible; 1 impossible or implausible; 2 unusable input; 3 the profile lacks a measurement.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    check.add_argument("--model", required=True, metavar="M", help="a model of the catalogue")
    check.add_argument("--format", metavar="F", help="of the weights (default: the published one that reads least)")
    check.add_argument("--units", type=positive_int, default=1, metavar="N", help="machines together (default: 1)")
    check.add_argument(
        "--tok-s", type=_rates, required=True, metavar="X", help="tokens/s of the whole batch, or a range: 40-50"
    )
    check.add_argument("--batch", type=positive_int, default=1, metavar="N", help="sequences at a time (default: 1)")
    check.add_argument(
        "--context", type=non_negative_int, default=0, metavar="N", help="tokens in each cache (default: 0)"
    )
    # Without SUPPRESS the subcommand's defaults would undo `roofprobe claims --json check`.
    _add_shared(check, argparse.SUPPRESS)
    arguments = top.parse_args(argv)
    return run_command(lambda: _check(arguments) if arguments.action else _list(arguments), "roofprobe claims")


def _add_shared(to: argparse.ArgumentParser, default: Any = None) -> None:
    to.add_argument(
        "--profile", type=existing_file, default=default, metavar="P", help="profile.json: its measured read and link"
    )
    to.add_argument("--json", action="store_true", default=default or False, help="print one JSON document")


def _list(arguments: argparse.Namespace) -> int:
    held = _held(arguments)
    data = claims_file()
    judged = judge_all(data, held.limits)
    if arguments.json:
        print(json.dumps(as_json(judged, held), indent=2, ensure_ascii=False))
    elif arguments.markdown:
        print(as_markdown(judged, data, held), end="")
    else:
        print(as_text(judged, data, held))
    return OK


def _check(arguments: argparse.Namespace) -> int:
    model = find_model(arguments.model)
    name = find_format(arguments.format) if arguments.format else favourable_format(claims_file(), model)
    step = Step(model, name, arguments.units, arguments.batch, arguments.context)
    held = _held(arguments)
    found = bounds(step, held.limits)
    verdicts = [found.verdict(rate) for rate in arguments.tok_s]
    verdict = min(verdicts, key=VERDICTS.index)
    taken = "" if arguments.format else f"no format stated, {name} taken; "
    each = ", ".join(f"{rate:g} is {v}" for rate, v in zip(arguments.tok_s, verdicts))
    arithmetic = f"{taken}{found.arithmetic}; {each}"
    if arguments.json:
        document = {
            "model": model.name,
            "format": name,
            "format_stated": arguments.format is not None,
            "units": step.units,
            "batch": step.batch,
            "context": step.context,
            "tokens_per_s": arguments.tok_s[0] if len(arguments.tok_s) == 1 else arguments.tok_s,
            "verdict": verdict,
            "verdicts": verdicts,
            "arithmetic": arithmetic,
            **_ways_json(found),
            "bounds": bounds_json(held),
        }
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        better = f" (best as {found.ways[0].name})" if found.ways and step.units > 1 else ""
        print(f"{verdict}{better}: {arithmetic}\nheld against: {held.source}")
    return OK if verdict == "plausible" else FAILED


def _ways_json(found: Bounds) -> dict[str, Any]:
    return {
        "parallelism": found.ways[0].name if found.ways else None,
        "ways": [
            {
                "parallelism": way.name,
                "nominal_tokens_per_s": way.nominal_tokens_per_s,
                "measured_tokens_per_s": way.measured_tokens_per_s,
            }
            for way in found.ways
        ],
    }


def _held(arguments: argparse.Namespace) -> Held:
    if arguments.profile is None:
        return usual()
    from roofprobe.profile import TuningProfile

    profile = TuningProfile.load(arguments.profile)
    return of_its_own(profile) if arguments.action else measured(profile)


def _rates(text: str) -> list[float]:
    """One number, or two with a dash between them, the lower first."""
    found = [positive_number(part) for part in text.replace("–", "-").split("-")]
    if len(found) > 2 or found != sorted(found):
        raise argparse.ArgumentTypeError(f"'{text}' is neither a rate nor a range of two, such as 40-50")
    return found

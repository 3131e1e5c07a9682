"""``roofprobe predict``: tokens a second that a model decodes on one to four units, as an interval with its terms."""

from __future__ import annotations

import argparse
from collections.abc import Callable
import json
from math import isfinite
from pathlib import Path

from roofprobe.arguments import existing_file, non_negative_int, parser, positive_int
from roofprobe.errors import OK, BadInput, run_command
from roofprobe.hf_config import ConfiguredModel, load_config
from roofprobe.machines import Assumed, given_machine
from roofprobe.models import Model, find_model, models
from roofprobe.predict_output import Answer, as_json, as_text
from roofprobe.scaling import MOST_UNITS, break_even_seconds, divides, predict, require_divisible
from roofprobe.step_terms import KINDS, Kind, Workload
from roofprobe.weight_formats import FORMATS, find_format

MOST_BATCH = 64
"""Beyond, decode is no longer bound by memory alone, which is all that is modelled."""
MOST_DRAFT = 16
MOST_CONTEXT = 1 << 24


def main(argv: list[str] | None = None) -> int:
    """Runs ``roofprobe predict`` with `argv`; returns the exit status."""
    top = parser(
        "roofprobe predict",
        "Decode tokens a second of a model on 1 to 4 units: the ceiling that memory sets, and what to expect.",
        f"models: {', '.join(model.name for model in models())}\nformats: {', '.join(FORMATS)}",
    )
    what = top.add_mutually_exclusive_group()
    what.add_argument("--model", metavar="M", help="a model of the catalogue")
    what.add_argument("--config", type=Path, metavar="FILE", help="any Hugging Face config.json, or its folder")
    what.add_argument("--validate", action="store_true", help="print predictions against published measurements")
    top.add_argument("--format", default="as-shipped", metavar="F", help="of the weights (default: as-shipped)")
    for kind, split in (
        ("tp", "each layer is split"),
        ("pp", "the layers are dealt out as stages"),
        ("dp", "the batch is dealt out"),
    ):
        text = f"units over which {split}, such as 1,2"
        top.add_argument(f"--{kind}", type=_unit_counts, metavar="N,...", help=text)
    top.add_argument("--batch", type=positive_int, default=1, metavar="N", help="sequences, 1 to 64 (default: 1)")
    top.add_argument(
        "--context", type=non_negative_int, default=0, metavar="N", help="tokens in each cache (default: 0)"
    )
    top.add_argument(
        "--draft", type=non_negative_int, default=0, metavar="N", help="tokens drafted a step (default: 0)"
    )
    top.add_argument("--acceptance", type=_share, metavar="X", help="how often a drafted token is right, 0 to 1")
    top.add_argument("--profile", type=existing_file, metavar="P", help="profile.json of the machine, as measured")
    top.add_argument("--bandwidth", type=_positive, metavar="GB/s", help="of one unit's memory (default: 234)")
    top.add_argument("--allreduce-us", type=_positive, metavar="US", help="of one small all-reduce (default: 30)")
    top.add_argument("--compare", action="store_true", help="the same on every known system, per watt and per price")
    top.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = top.parse_args(argv)
    return run_command(lambda: _run(arguments), "roofprobe predict")


def _run(arguments: argparse.Namespace) -> int:
    if arguments.validate:
        from roofprobe.validation_page import page, page_json

        print(json.dumps(page_json(), indent=2) if arguments.json else page(), end="\n" if arguments.json else "")
        return OK
    work, notes = _workload(arguments)
    if arguments.compare:
        from roofprobe.compare_output import compare_json, compare_text

        for flag in ("tp", "pp", "dp", "profile", "bandwidth", "allreduce_us"):
            if getattr(arguments, flag) is not None:
                name = flag.replace("_", "-")
                raise BadInput(f"--compare takes each system's own units and figures; leave out --{name}")
        print(json.dumps(compare_json(work), indent=2) if arguments.json else compare_text(work))
        return OK
    answer = _answer(work, _asked(arguments, work.model), _machines(arguments, work), notes)
    print(json.dumps(as_json(answer), indent=2) if arguments.json else as_text(answer))
    return OK


def _workload(arguments: argparse.Namespace) -> tuple[Workload, tuple[str, ...]]:
    if arguments.model is None and arguments.config is None:
        raise BadInput("which model? --model M from the catalogue (see --help), or --config FILE")
    if arguments.batch > MOST_BATCH:
        raise BadInput(f"--batch {arguments.batch}: expected 1 to {MOST_BATCH}; beyond, memory is not all that binds")
    if arguments.draft > MOST_DRAFT:
        raise BadInput(f"--draft {arguments.draft}: expected 0 to {MOST_DRAFT}")
    if arguments.context > MOST_CONTEXT:
        raise BadInput(f"--context {arguments.context}: expected at most {MOST_CONTEXT} tokens")
    if (arguments.draft > 0) != (arguments.acceptance is not None):
        raise BadInput("--draft N and --acceptance X go together; one of them is missing")
    name = find_format(arguments.format)
    if arguments.config is None:
        found = _catalogued(arguments.model)
    else:
        found = load_config(arguments.config, as_shipped=name == "as-shipped")
    work = Workload(found.model, name, arguments.batch, arguments.context, arguments.draft, arguments.acceptance or 0.0)
    return work, found.notes


def _catalogued(name: str) -> ConfiguredModel:
    model = find_model(name)
    return ConfiguredModel(model, () if model.note is None else (model.note,))


def _asked(arguments: argparse.Namespace, model: Model) -> list[tuple[Kind, int]]:
    """What was asked for; else every number of units over which the model's layers divide."""
    asked = [(kind, units) for kind in KINDS for units in getattr(arguments, kind) or ()]
    return asked or [("tp", units) for units in range(1, MOST_UNITS + 1) if divides(model, units)]


def _machines(arguments: argparse.Namespace, work: Workload) -> Callable[[Kind, int], Assumed]:
    """(kind, units) -> the machine: with a profile, kernels differ in shape with the number of ranks."""
    if arguments.profile is None:
        given = given_machine(arguments.bandwidth, arguments.allreduce_us)
        return lambda _kind, _units: given
    if arguments.bandwidth is not None:
        raise BadInput("--profile and --bandwidth both say how fast the memory is; give one of them")
    from roofprobe.profile import TuningProfile
    from roofprobe.profile_machine import profile_machine

    profile = TuningProfile.load(arguments.profile)

    def machine(kind: Kind, units: int) -> Assumed:
        linked = 1 if kind == "dp" else units
        return profile_machine(profile, work, linked, units if kind == "tp" else 1, arguments.allreduce_us)

    return machine


def _answer(
    work: Workload,
    asked: list[tuple[Kind, int]],
    machines: Callable[[Kind, int], Assumed],
    notes: tuple[str, ...],
) -> Answer:
    for kind, units in asked:
        if kind == "tp":
            require_divisible(work.model, units)
    assumed = [machines(kind, units) for kind, units in asked]
    predictions = tuple(predict(work, a.machine, kind, units) for a, (kind, units) in zip(assumed, asked))
    several = len({a.notes for a in assumed}) > 1
    said: dict[str, None] = {}
    for a, p in zip(assumed, predictions):
        for note in a.notes:
            said[f"{p.name}: {note}" if several else note] = None
    break_even = None
    if divides(work.model, 2):
        break_even = break_even_seconds(work, machines("tp", 1).machine, machines("tp", 2).machine)
    return Answer(work, predictions, break_even, (*said, *notes))


def _unit_counts(text: str) -> tuple[int, ...]:
    counts = tuple(dict.fromkeys(positive_int(part) for part in text.split(",")))
    if max(counts) > MOST_UNITS:
        raise argparse.ArgumentTypeError(f"'{text}': expected 1 to {MOST_UNITS} units, such as 1,2,4")
    return counts


def _positive(text: str) -> float:
    value = _number(text)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return value


def _share(text: str) -> float:
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a share between 0 and 1")
    return value


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not isfinite(value):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number")
    return value

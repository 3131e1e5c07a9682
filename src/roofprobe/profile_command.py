"""``roofprobe profile show|validate|export``: a tuning profile, for people and for other software."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from roofprobe.arguments import parser, positive_int
from roofprobe.errors import OK, BadInput, CannotMeasure, run_command
from roofprobe.files import write_whole
from roofprobe.nccl_exports import environment_file, tuner_rules, why_no_rules
from roofprobe.profile import TuningProfile, json_schema


def main(argv: list[str] | None = None) -> int:
    """Runs ``roofprobe profile`` with `argv`; returns the exit status."""
    top = parser("roofprobe profile", "Show, validate or export a tuning profile (profile.json).")
    actions = top.add_subparsers(dest="action", required=True, metavar="show|validate|export")
    for name, text in (("show", "print its figures"), ("validate", "check that it is a whole, valid profile")):
        action = actions.add_parser(name, help=text, allow_abbrev=False)
        action.add_argument("path", type=Path, help="profile.json, or the run folder that holds it")
    export = actions.add_parser("export", help="write it in another program's form", allow_abbrev=False)
    export.add_argument(
        "format",
        choices=["schema", "nccl-env", "nccl-tuner", "triton", "serving"],
        metavar="FORMAT",
        help="schema: the JSON Schema of profile.json, needs no PATH; nccl-env: variables for sh to source;"
        " nccl-tuner: rules for NCCL's example tuner plugin (NCCL_TUNER_CONFIG_FILE); triton: tuned configurations as"
        " arguments of triton.Config, in JSON; serving: settings and commands of vLLM, SGLang and TensorRT-LLM, for sh",
    )
    export.add_argument("path", type=Path, nargs="?", help="profile.json, or the run folder that holds it")
    export.add_argument("-o", "--output", type=Path, metavar="FILE", help="a file to write instead of stdout")
    export.add_argument(
        "--ranks", type=positive_int, metavar="N", help="nccl-*: the world size, where several were tuned"
    )
    export.add_argument("--model", metavar="M", help="serving: the model, of the catalogue (see roofprobe predict)")
    export.add_argument("--format", dest="weights", metavar="F", help="serving: of its weights (default: as-shipped)")
    arguments = top.parse_args(argv)

    def command() -> int:
        if arguments.action == "export":
            return _export(arguments)
        path, profile = _load(arguments.path)
        print(f"{path}: a valid profile" if arguments.action == "validate" else describe(profile))
        return OK

    return run_command(command, "roofprobe profile")


def _load(path: Path) -> tuple[Path, TuningProfile]:
    path = path / "profile.json" if path.is_dir() else path
    return path, TuningProfile.load(path)


def _export(arguments: argparse.Namespace) -> int:
    text = _exported(arguments)
    if arguments.output is None:
        print(text, end="")
    else:
        write_whole(arguments.output, text)
    return OK


def _exported(arguments: argparse.Namespace) -> str:
    form = arguments.format
    for flag, value in (("--model", arguments.model), ("--format", arguments.weights)):
        if value is not None and form != "serving":
            raise BadInput(f"{flag} belongs to serving, not to {form}; leave it out")
    if arguments.ranks is not None and not form.startswith("nccl-"):
        raise BadInput(f"--ranks belongs to nccl-env and nccl-tuner, not to {form}; leave it out")
    if form == "schema":
        return json.dumps(json_schema(), indent=2) + "\n"
    if arguments.path is None:
        raise BadInput(f"{form} needs a profile: roofprobe profile export {form} PATH")
    path, profile = _load(arguments.path)
    if form == "triton":
        from roofprobe.triton_export import triton_configs

        return json.dumps(triton_configs(profile), indent=2) + "\n"
    if form == "serving":
        return _serving(profile, arguments.model, arguments.weights)
    return _nccl_export(form, path, profile, arguments.ranks)


def _serving(profile: TuningProfile, model: str | None, weights: str | None) -> str:
    from roofprobe.models import find_model
    from roofprobe.serving_export import serving_file
    from roofprobe.step_terms import Workload
    from roofprobe.weight_formats import find_format

    if model is None and weights is not None:
        raise BadInput("--format is that of a model's weights; say which with --model")
    work = None if model is None else Workload(find_model(model), find_format(weights or "as-shipped"))
    return serving_file(profile, work)


def _nccl_export(form: str, path: Path, profile: TuningProfile, ranks: int | None) -> str:
    found = [t for t in profile.nccl if ranks in (None, t.world_size)]
    if not found:
        what = "NCCL settings" if ranks is None else f"NCCL settings for {ranks} ranks"
        raise CannotMeasure(f"{path} holds no {what}; measure them with `roofprobe tune --nccl --profile {path}`")
    if len(found) > 1:
        known = ", ".join(f"{t.world_size} ranks over {t.transport}" for t in found)
        raise BadInput(f"{path} holds several: {known}; choose with --ranks, or keep a profile for each")
    text = environment_file(found[0]) if form == "nccl-env" else tuner_rules(found[0])
    if text is None:
        raise CannotMeasure(f"no rules to write: {why_no_rules(found[0])}")
    return text


def describe(profile: TuningProfile) -> str:
    """A profile's figures as lines."""
    where = profile.environment
    machine = where.devices[0].name if where.devices else where.cpu_model
    lines = [f"{machine} ({where.platform or 'unknown platform'}), measured {profile.created}"]
    for side, figures in profile.ceilings.items():
        for op, figure in figures.items():
            nominal = "" if figure.nominal_gb_per_s is None else f" of nominal {figure.nominal_gb_per_s:.1f}"
            lines.append(f"  {side:<7}{op:<8}{figure.gb_per_s:>9.1f} GB/s{nominal}")
    for kernel in profile.kernels:
        name = f"{kernel.op} {kernel.format} {kernel.n}x{kernel.k} b{kernel.batch}"
        share = "" if kernel.ceiling_fraction is None else f", {kernel.ceiling_fraction:.1%} of the measured ceiling"
        lines.append(f"  {kernel.side:<7}{name:<32}{kernel.gb_per_s:>9.1f} GB/s{share}")
    for tuned in profile.tuned:
        name = f"{tuned.op} {tuned.format} {tuned.n}" + ("" if tuned.k is None else f"x{tuned.k} b{tuned.batch}")
        config = " ".join(f"{field}={value}" for field, value in tuned.config.items())
        found = "keep the default" if tuned.keep_default else f"{config}: {tuned.speedup:.3f}x the default"
        lines.append(f"  {tuned.side:<7}{name:<32}{found}")
    for nccl in profile.nccl:
        found = "keep the defaults" if nccl.everywhere is None else str(nccl.everywhere)
        lines.append(f"  NCCL, {nccl.world_size} ranks, {nccl.transport}: {found}")
    for collective in profile.collectives:
        lines.append(f"  {collective.op}, {collective.world_size} ranks, {collective.transport}")
        for piece in collective.fit:
            lines.append(
                f"    {piece.min_bytes} to {piece.max_bytes} B: {piece.alpha_us:.1f} us + bus bytes /"
                f" {piece.beta_gb_per_s:.3f} GB/s"
            )
    return "\n".join(lines)

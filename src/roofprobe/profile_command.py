"""``roofprobe profile show|validate|export``: a tuning profile, for people and for other software."""

from __future__ import annotations

import json
from pathlib import Path

from roofprobe.arguments import parser
from roofprobe.errors import OK, run_command
from roofprobe.files import write_whole
from roofprobe.profile import TuningProfile, json_schema


def main(argv: list[str] | None = None) -> int:
    """Runs ``roofprobe profile`` with `argv`; returns the exit status."""
    top = parser("roofprobe profile", "Show, validate or export a tuning profile (profile.json).")
    actions = top.add_subparsers(dest="action", required=True, metavar="show|validate|export")
    for name, text in (("show", "print its figures"), ("validate", "check that it is a whole, valid profile")):
        action = actions.add_parser(name, help=text, allow_abbrev=False)
        action.add_argument("path", type=Path, help="profile.json, or the run folder that holds it")
    export = actions.add_parser("export", help="write it in another program's form", allow_abbrev=False)
    export.add_argument("format", choices=["schema"], help="schema: the JSON Schema of profile.json; needs no profile")
    export.add_argument("-o", "--output", type=Path, help="a file to write instead of stdout")
    arguments = top.parse_args(argv)

    def command() -> int:
        if arguments.action == "export":
            return _export(arguments.output)
        path = arguments.path / "profile.json" if arguments.path.is_dir() else arguments.path
        profile = TuningProfile.load(path)
        print(f"{path}: a valid profile" if arguments.action == "validate" else describe(profile))
        return OK

    return run_command(command, "roofprobe profile")


def _export(output: Path | None) -> int:
    text = json.dumps(json_schema(), indent=2) + "\n"
    if output is None:
        print(text, end="")
    else:
        write_whole(output, text)
    return OK


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
    for collective in profile.collectives:
        lines.append(f"  {collective.op}, {collective.world_size} ranks, {collective.transport}")
        for piece in collective.fit:
            lines.append(
                f"    {piece.min_bytes} to {piece.max_bytes} B: {piece.alpha_us:.1f} us + bus bytes /"
                f" {piece.beta_gb_per_s:.3f} GB/s"
            )
    return "\n".join(lines)

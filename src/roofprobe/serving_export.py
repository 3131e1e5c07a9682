"""A file for sh with what serving engines should be told: tensor-parallel size, variables, a function an engine.

    . ./serving.sh && vllm_serve MODEL --max-model-len 32768        # likewise sglang_serve, trtllm_serve

Each line stands below its reason and number. What the profile did not measure is not set; a comment says how to measure
it. Flags are those of vLLM's ``vllm serve`` (its multiprocessing backend over nodes), SGLang's
``sglang.launch_server`` and TensorRT-LLM's ``trtllm-serve`` as their documentation has them.
"""

from __future__ import annotations

import re

from roofprobe.nccl_exports import environment_file
from roofprobe.nccl_tuning import NcclTuning
from roofprobe.profile import TuningProfile
from roofprobe.serving import MEASURE_ALL_REDUCE, Choice, choose, matching_nccl
from roofprobe.shell_text import comment, export
from roofprobe.step_terms import Workload

SGLANG_PORT = 20000
"""Of the ranks' rendezvous."""
SETTING = re.compile(r"NCCL_(?!DEBUG)[A-Z0-9_]+")
NEEDED = {
    "NODE_RANK": "0 on the head, 1 and up on the others",
    "HEAD_ADDRESS": "an address of the head",
    "HOSTS": "the addresses of all nodes, with commas",
}
"""Variables of a person's own that functions over several nodes stop without, and what they are."""
SGLANG = 'python3 -m sglang.launch_server --model-path "$@" --tp-size "$ROOFPROBE_TP"'
TUNE_NCCL = "`roofprobe tune --nccl --hosts A,B,... --profile PATH`"


def serving_file(profile: TuningProfile, work: Workload | None) -> str:
    """The file's text; without a model it has NCCL's settings alone."""
    where = profile.environment
    machine = where.devices[0].name if where.devices else where.cpu_model
    lines = [comment(f"Serving on {machine}, by a profile measured {profile.created}"), ""]
    if work is None:
        lines += [comment("Tensor-parallel size: a question of the model; say --model M (--format F)"), ""]
        lines += _nccl(profile, profile.nccl[0] if len(profile.nccl) == 1 else None, None)
        return "\n".join(lines) + "\n"
    choice, left_out = choose(profile, work)
    lines.append(comment(f"{work.model.name}, {work.format}, tensor parallelism"))
    lines += [comment(f"  {why}") for why in left_out]
    if choice is None:
        lines += [comment("nothing is set: the profile can't tell a tensor-parallel size")]
        return "\n".join(lines) + "\n"
    lines += [comment(f"  over {choice.ranks}: {choice.reason}"), f"ROOFPROBE_TP={choice.ranks}"]
    lines += [comment("The estimates rest on:"), *(comment(f"  {note}") for note in choice.assumed), ""]
    if choice.ranks > 1:
        lines += _nccl(profile, matching_nccl(profile, choice), choice)
    else:
        lines += [comment("NCCL: one rank sends nothing"), ""]
    lines += _engines(choice, _exported(lines))
    return "\n".join(lines) + "\n"


def _nccl(profile: TuningProfile, tuning: NcclTuning | None, choice: Choice | None) -> list[str]:
    lines = []
    adopted = {} if tuning is None or tuning.everywhere is None else tuning.everywhere.environment()
    for name, value in sorted(profile.environment.variables.items()):
        if SETTING.fullmatch(name) and name not in adopted:
            measured = (
                "as it was when the profile was measured"
                if choice is None
                else f"as it was when measured, where {choice.cost}"
            )
            lines += [comment(f"{name}: {measured}"), export(name, value)]
    if tuning is not None:
        lines += _settings(tuning)
        if tuning.has_rules:
            lines.append(comment("finer, by message size: `roofprobe profile export nccl-tuner PATH`"))
    elif profile.nccl:
        known = ", ".join(f"{t.world_size} ranks over {t.transport}" for t in profile.nccl)
        lines.append(comment(f"NCCL settings: not set; the profile has those for {known}: tune with {TUNE_NCCL}"))
    else:
        lines.append(comment(f"NCCL settings: not set, since none were measured: {TUNE_NCCL}"))
    if choice is None and not profile.collectives:
        lines.append(comment(f"All-reduce: not measured: {MEASURE_ALL_REDUCE}"))
    return [*lines, ""]


def _settings(tuning: NcclTuning) -> list[str]:
    """`environment_file`, with the gain beside each variable."""
    lines = environment_file(tuning).splitlines()
    if tuning.everywhere is None:
        return lines
    ratios = next(c for c in tuning.candidates if c.setting == tuning.everywhere).ratios
    best = min(ratios, key=lambda r: r.ratio)
    gain = comment(f"all-reduce of {best.bytes} B in {best.ratio:.3f} of the defaults' time")
    return [f"{line}  {gain}" if line.startswith("export ") else line for line in lines]


def _exported(lines: list[str]) -> list[str]:
    return [line.split()[1].partition("=")[0] for line in lines if line.startswith("export ")]


def _engines(choice: Choice, exported: list[str]) -> list[str]:
    size = f"size {choice.ranks}: {choice.rate}"
    if choice.nodes == 1:
        return [
            *_function("vllm_serve", f"vLLM, {size}", ['vllm serve "$@" --tensor-parallel-size "$ROOFPROBE_TP"']),
            *_function("sglang_serve", f"SGLang, {size}", [SGLANG]),
            *_function("trtllm_serve", f"TensorRT-LLM, {size}", ['trtllm-serve "$@" --tp_size "$ROOFPROBE_TP"']),
        ]
    each = f"on each of {choice.nodes} nodes, with NODE_RANK and HEAD_ADDRESS set, {size}"
    place = f'--nnodes {choice.nodes} --node-rank "$NODE_RANK"'
    mpirun = f'mpirun -n {choice.ranks} -H "$HOSTS"' + "".join(f" -x {name}" for name in exported)
    vllm = [
        _need("NODE_RANK", "HEAD_ADDRESS"),
        '[ "$NODE_RANK" = 0 ] || set -- "$@" --headless',
        f'vllm serve "$@" --tensor-parallel-size "$ROOFPROBE_TP" {place} --master-addr "$HEAD_ADDRESS"',
    ]
    sglang = [_need("NODE_RANK", "HEAD_ADDRESS"), f'{SGLANG} {place} --dist-init-addr "$HEAD_ADDRESS:{SGLANG_PORT}"']
    trtllm = [_need("HOSTS"), f'{mpirun} trtllm-llmapi-launch trtllm-serve "$@" --tp_size "$ROOFPROBE_TP"']
    return [
        *_function("vllm_serve", f"vLLM {each}", vllm),
        *_function("sglang_serve", f"SGLang {each}", sglang),
        *_function(
            "trtllm_serve", f"TensorRT-LLM on the head alone (mpirun starts the rest), HOSTS set, {size}", trtllm
        ),
    ]


def _need(*names: str) -> str:
    """A line that ends the function with a message where one of them is not set."""
    return " ".join([":", *(f'"${{{name}:?{NEEDED[name]}}}"' for name in names)])


def _function(name: str, why: str, body: list[str]) -> list[str]:
    return [comment(why), f"{name}() {{", *(f"    {line}" for line in body), "}"]

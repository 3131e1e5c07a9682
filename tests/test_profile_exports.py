"""Each export is taken by what it is for: sh, the flags that serving engines document, a validator."""

from __future__ import annotations

import argparse
from itertools import pairwise
import json
import os
from pathlib import Path
import subprocess
from typing import Any

import jsonschema
import msgspec
import pytest
from records import collective
from sparks import TRANSPORT, linked, spark, tuned, tuned_nccl

from roofprobe.models import find_model
from roofprobe.profile import json_schema
from roofprobe.profile_command import main
from roofprobe.serving_export import serving_file
from roofprobe.step_terms import Workload

GPT = Workload(find_model("gpt-oss-120b"), "as-shipped")


class EngineParser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise AssertionError(message)


def engine(name: str) -> EngineParser:
    """The flags that an engine's documentation has, of those that concern parallelism; no other is accepted."""
    parser = EngineParser(allow_abbrev=False)
    if name == "vllm":
        parser.add_argument("command", choices=["serve"])
        parser.add_argument("model")
        parser.add_argument("--headless", action="store_true")
        for flag in ("--tensor-parallel-size", "--pipeline-parallel-size", "--nnodes", "--node-rank"):
            parser.add_argument(flag, type=int)
        parser.add_argument("--master-addr")
    elif name == "python3":
        parser.add_argument("-m", choices=["sglang.launch_server"], required=True)
        parser.add_argument("--model-path", required=True)
        for flag in ("--tp-size", "--pp-size", "--dp-size", "--nnodes", "--node-rank"):
            parser.add_argument(flag, type=int)
        parser.add_argument("--dist-init-addr")
    else:
        parser.add_argument("model")
        parser.add_argument("--tp_size", type=int)
        parser.add_argument("--pp_size", type=int)
    parser.add_argument("--own-flag")
    return parser


def called(text: str, call: str, tmp_path: Path, **variables: str) -> list[str]:
    """The words of the command that a function of the file runs, after `sh` sourced it."""
    (tmp_path / "serving.sh").write_text(text)
    subprocess.run(["sh", "-n", "serving.sh"], cwd=tmp_path, check=True)
    for name in ("vllm", "python3", "mpirun", "trtllm-serve"):
        stub = tmp_path / name
        stub.write_text(f"#!/bin/sh\nprintf '%s\\n' {name} \"$@\"\n")
        stub.chmod(0o755)
    script, variables = f". ./serving.sh\n{call}", {**variables, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-euc", script], cwd=tmp_path, capture_output=True, text=True, env=variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


NODE = {"NODE_RANK": "1", "HEAD_ADDRESS": "192.168.100.1", "HOSTS": "192.168.100.1,192.168.100.2"}


def test_two_units_that_gain_are_recommended_to_each_engine(tmp_path: Path) -> None:
    text = serving_file(spark(linked(2, 20.0, TRANSPORT), nccl=(tuned_nccl(),)), GPT)
    assert "over 2: " in text and "an all-reduce of 5760 B takes 20.3 us, and up to" in text
    head, *words = called(text, "vllm_serve org/model --own-flag 'two words'", tmp_path, **NODE)
    found = engine(head).parse_args(words)
    assert (found.model, found.own_flag, found.tensor_parallel_size) == ("org/model", "two words", 2)
    assert (found.nnodes, found.node_rank, found.master_addr, found.headless) == (2, 1, "192.168.100.1", True)
    head, *words = called(text, "vllm_serve org/model", tmp_path, **NODE | {"NODE_RANK": "0"})
    assert not engine(head).parse_args(words).headless
    head, *words = called(text, "sglang_serve org/model --own-flag x", tmp_path, **NODE)
    found = engine(head).parse_args(words)
    assert (found.model_path, found.tp_size, found.nnodes, found.node_rank) == ("org/model", 2, 2, 1)
    assert found.dist_init_addr == "192.168.100.1:20000"
    words = called(text, "trtllm_serve org/model", tmp_path, **NODE)
    start = words.index("trtllm-serve")
    assert engine("trtllm-serve").parse_args(words[start + 1 :]).tp_size == 2
    passed = ["NCCL_IB_HCA", "NCCL_ALGO", "NCCL_PROTO", "NCCL_MIN_NCHANNELS", "NCCL_MAX_NCHANNELS"]
    assert words[:start] == [
        "mpirun", "-n", "2", "-H", NODE["HOSTS"], *(word for name in passed for word in ("-x", name)),
        "trtllm-llmapi-launch",
    ]  # fmt: skip


def test_the_settings_are_variables_after_sourcing_and_each_stands_below_its_reason(tmp_path: Path) -> None:
    text = serving_file(spark(linked(2, 20.0, TRANSPORT), nccl=(tuned_nccl(),)), GPT)
    assert called(text, 'echo "$ROOFPROBE_TP $NCCL_ALGO $NCCL_PROTO $NCCL_IB_HCA ${NCCL_DEBUG-unset}"', tmp_path) == [
        "2 allreduce:ring allreduce:ll rocep1s0f0,roceP2p1s0f0 unset"
    ]
    lines = text.splitlines()
    for before, line in pairwise(lines):
        if line.startswith(("ROOFPROBE_TP=", "export ")) or line.endswith("() {"):
            assert before.startswith("# ") or "of the defaults' time" in line, line
        if line.endswith("() {"):
            assert "tokens/s expected" in before


def test_a_link_that_costs_more_than_it_saves_keeps_one_unit(tmp_path: Path) -> None:
    text = serving_file(spark(linked(2, 500.0, TRANSPORT)), GPT)
    head, *words = called(text, "vllm_serve org/model", tmp_path)
    found = engine(head).parse_args(words)
    assert (found.tensor_parallel_size, found.nnodes) == (1, None)
    head, *words = called(text, "sglang_serve org/model", tmp_path)
    assert engine(head).parse_args(words).tp_size == 1
    head, *words = called(text, "trtllm_serve org/model", tmp_path)
    assert engine(head).parse_args(words).tp_size == 1
    assert "export" not in text and "#   over 2: " in text


@pytest.mark.parametrize(
    ("collectives", "why"),
    [
        pytest.param((), "no NCCL all-reduce of 2 ranks in the profile: measure it with", id="not measured"),
        pytest.param((linked(2, 1.0, "TCP, 2 ranks on 2 hosts", "gloo"),), "no NCCL all-reduce of 2", id="gloo"),
    ],
)
def test_a_second_unit_is_not_recommended_unmeasured(collectives: tuple[Any, ...], why: str) -> None:
    text = serving_file(spark(*collectives), GPT)
    assert "ROOFPROBE_TP=1\n" in text and why in text


def test_a_model_that_does_not_fit_and_one_that_does_not_divide_say_so() -> None:
    big = Workload(find_model("deepseek-v3"), "nvfp4")
    text = serving_file(spark(linked(2, 20.0, TRANSPORT), linked(3, 20.0, "NCCL, NET/IB, 3 ranks on 3 hosts")), big)
    assert (
        "nothing is set" in text and "do not fit 2 x 128.5 GB" in text and "over 3: " in text and "query heads" in text
    )
    assert all(line.startswith("#") or not line for line in text.splitlines())


def test_without_a_gpus_read_nothing_is_recommended() -> None:
    text = serving_file(spark(linked(2, 20.0, TRANSPORT), ceilings={}), GPT)
    assert "measure it with `roofprobe run` on the GPU" in text and "ROOFPROBE_TP=" not in text


def test_without_a_model_there_are_ncclss_settings_alone(tmp_path: Path) -> None:
    text = serving_file(spark(nccl=(tuned_nccl(),)), None)
    assert called(text, 'echo "$NCCL_ALGO ${ROOFPROBE_TP-unset}"', tmp_path) == ["allreduce:ring unset"]
    assert "none were measured: `roofprobe tune --nccl" in serving_file(spark(), None)


def test_ranks_of_one_machine_need_no_addresses(tmp_path: Path) -> None:
    text = serving_file(spark(linked(2, 5.0, "NCCL, P2P, 2 ranks on this host")), GPT)
    head, *words = called(text, "vllm_serve org/model", tmp_path)
    assert engine(head).parse_args(words).tensor_parallel_size == 2
    assert "--nnodes" not in text and "mpirun" not in text


def test_a_profile_can_not_smuggle_commands_into_what_a_shell_sources(tmp_path: Path) -> None:
    evil = "x\necho smuggled\r; echo `echo smuggled` $(echo smuggled) 'echo smuggled'"
    profile = spark(linked(2, 20.0, evil), nccl=(tuned_nccl(transport=evil, created=evil, nccl=evil),), created=evil)
    variables = {"NCCL_IB_HCA": evil, "NCCL_X;echo smuggled;": "1"}
    profile = msgspec.structs.replace(
        profile, environment=msgspec.structs.replace(profile.environment, variables=variables)
    )
    assert called(serving_file(profile, GPT), "", tmp_path) == []


def test_a_profile_with_everything_in_it_fits_the_schema(tmp_path: Path) -> None:
    whole = spark(
        linked(2, 20.0, TRANSPORT), collective(), tuned=(tuned(), tuned("read", k=None)), nccl=(tuned_nccl(),)
    )
    for profile in (whole, whole.merge(spark(nccl=(tuned_nccl(everywhere=None),)))):
        profile.save(tmp_path / "profile.json")
        jsonschema.validate(json.loads((tmp_path / "profile.json").read_text()), json_schema())


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["triton", "P"], 0, '"roofprobe/triton-configs/1"'),
        (["serving", "P", "--model", "gpt-oss-120b", "--format", "mxfp4-all"], 0, "gpt-oss-120b, mxfp4-all"),
        (["serving", "P", "--model", "gpt-5"], 2, "gpt-5"),
        (["serving", "P", "--format", "mxfp4"], 2, "say which with --model"),
        (["triton", "P", "--model", "gpt-oss-120b"], 2, "--model belongs to serving, not to triton"),
        (["serving", "P", "--ranks", "2"], 2, "--ranks belongs to nccl-env and nccl-tuner"),
        (["triton"], 2, "triton needs a profile"),
    ],
)
def test_the_command(
    arguments: list[str], status: int, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spark(tuned=(tuned(),)).save(tmp_path / "profile.json")
    assert main(["export", *(str(tmp_path) if word == "P" else word for word in arguments)]) == status
    written = capsys.readouterr()
    assert told in (written.err if status else written.out)

"""`roofprobe predict`: the documented JSON, the table, and one line for whatever can't be answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from records import collective, environment, gemv, measurement

from roofprobe.predict_command import main
from roofprobe.profile import build_profile
from roofprobe.run_file import Run

Captured = pytest.CaptureFixture[str]


def document(capsys: Captured, *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def refusal(capsys: Captured, *arguments: str) -> tuple[int, str]:
    try:
        status = main([*arguments])
    except SystemExit as stopped:  # argparse's own
        status = int(stopped.code or 0)
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    return status, shown.err


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "profile.json"
    run = Run(
        environment=environment(),
        measurements=(measurement(), gemv()),
        collectives=(collective(),),
        skipped=(),
        ended=None,
    )
    build_profile(run).save(path)
    return path


def test_the_documented_keys_of_gpt_oss_120b(capsys: Captured) -> None:
    found = document(capsys, "--model", "gpt-oss-120b", "--tp", "1,2", "--dp", "2", "--pp", "2", "--context", "8192")
    assert (found["model"], found["format"]) == ("gpt-oss-120b", "as-shipped")
    assert found["parameters"] / 1e9 == pytest.approx(116.8, rel=5e-3)
    assert found["read_parameters"] / 1e9 == pytest.approx(5.131, abs=1e-3)
    assert found["weight_bytes"] / 1e9 == pytest.approx(65.168, abs=2e-3)
    assert found["bytes_per_token"] / 1e9 == pytest.approx(4.999, abs=1e-3)
    assert (found["kv_bytes_per_token"], found["sliding_kv_bytes"]) == (36864, 4718592)
    assert (found["state_bytes"], found["state_resident_bytes"]) == (0, 0)
    assert (found["all_reduces_per_token"], found["all_reduce_bytes"]) == (72, 5760)
    assert found["fits"] == {"1": True, "2": True, "3": True, "4": True}
    assert [c["parallelism"] for c in found["configurations"]] == ["tp1", "tp2", "pp2", "dp2"]
    one, two, *_ = found["configurations"]
    assert (two["units"], two["batch"], two["context"], two["fits"]) == (2, 1, 8192, True)
    moved = found["bytes_per_token"] + 8192 * 36864 + 4718592
    assert one["ceiling_tokens_per_s"] == pytest.approx(234e9 / moved, rel=1e-6)
    assert two["ceiling_tokens_per_s"] == pytest.approx(2 * 234e9 / moved, rel=1e-6)
    assert set(two["terms_us"]) == {"weights", "kv", "state", "link_latency", "link_bandwidth", "fixed"}
    assert two["terms_us"]["link_latency"] == pytest.approx(72 * 30)
    for c in found["configurations"]:
        expected = c["expected_tokens_per_s"]
        assert expected["low"] <= expected["mid"] <= expected["high"] <= 2 * expected["low"]
        assert expected["high"] <= c["ceiling_tokens_per_s"]
        assert sum(c["terms_us"].values()) == pytest.approx(c["step_us"])
        assert expected["mid"] == pytest.approx(1e6 / c["step_us"])
        assert c["link_latency_loaded_us"] is None
    assert found["break_even_all_reduce_us"] > 30
    said = " ".join(found["assumptions"])
    assert "234 GB/s" in said and "30 us" in said and "not given" in said and "calibrated" in said


def test_recurrent_state_is_told_as_moved_and_as_held(capsys: Captured) -> None:
    found = document(capsys, "--model", "qwen3.5-397b-a17b", "--tp", "4", "--format", "iq4_xs")
    assert (found["state_bytes"], found["state_resident_bytes"]) == (377487360, 188743680)
    (only,) = found["configurations"]
    assert only["terms_us"]["state"] == pytest.approx(377487360 / 4 / (234e9 * 0.942) * 1e6)


def test_rates_are_totals_with_each_streams_share_beside_them(capsys: Captured) -> None:
    found = document(capsys, "--model", "llama-3.1-70b", "--format", "nvfp4", "--tp", "2", "--batch", "16")
    (only,) = found["configurations"]
    for name in ("low", "mid", "high"):
        total = only["expected_tokens_per_s"][name]
        assert only["expected_tokens_per_s_per_stream"][name] == pytest.approx(total / 16)
    assert only["ceiling_tokens_per_s_per_stream"] == pytest.approx(only["ceiling_tokens_per_s"] / 16)


def test_given_numbers_stand_and_are_called_given(capsys: Captured) -> None:
    found = document(capsys, "--model", "llama-3.1-70b", "--tp", "2", "--bandwidth", "400", "--allreduce-us", "12.5")
    (only,) = found["configurations"]
    assert only["ceiling_tokens_per_s"] == pytest.approx(2 * 400e9 / found["bytes_per_token"])
    assert only["terms_us"]["link_latency"] == pytest.approx(160 * 12.5)
    assert "bandwidth 400 GB/s a unit, given" in found["assumptions"]


def test_without_a_split_every_number_of_units_that_divides_is_answered(capsys: Captured) -> None:
    for model, expected in (("gpt-oss-120b", ["tp1", "tp2", "tp4"]), ("qwen3-coder-30b-a3b", ["tp1", "tp2", "tp4"])):
        assert [c["parallelism"] for c in document(capsys, "--model", model)["configurations"]] == expected


def test_speculative_decoding_multiplies_the_rate_of_a_dense_model(capsys: Captured) -> None:
    plain = document(capsys, "--model", "llama-3.1-70b", "--tp", "1")
    drafted = document(capsys, "--model", "llama-3.1-70b", "--tp", "1", "--draft", "3", "--acceptance", "0.5")
    rates = [d["configurations"][0]["expected_tokens_per_s"]["mid"] for d in (plain, drafted)]
    assert rates[1] / rates[0] == pytest.approx(1.875)
    assert (plain["acceptance"], drafted["draft"], drafted["acceptance"]) == (None, 3, 0.5)


def test_a_model_that_does_not_fit_is_computed_and_marked(capsys: Captured) -> None:
    found = document(capsys, "--model", "llama-3.1-70b", "--format", "bf16", "--tp", "1,2")
    assert found["fits"] == {"1": False, "2": True, "3": True, "4": True}
    assert [c["fits"] for c in found["configurations"]] == [False, True]
    assert found["configurations"][0]["expected_tokens_per_s"]["mid"] > 0
    assert main(["--model", "llama-3.1-70b", "--format", "bf16", "--tp", "1,2"]) == 0
    text = capsys.readouterr().out
    assert "tp1      NO" in text and "tp2     yes" in text and "NO under fits" in text


def test_the_table_shows_each_terms_share(capsys: Captured) -> None:
    assert main(["--model", "gpt-oss-120b", "--tp", "2", "--context", "4096"]) == 0
    text = capsys.readouterr().out
    (row,) = (line for line in text.splitlines() if line.startswith("tp2"))
    shares = [float(cell) for cell in row.replace(" %", "%").split() if cell.endswith("%") for cell in [cell[:-1]]]
    assert len(shares) == 6 and sum(shares) == pytest.approx(100, abs=0.3)
    assert "a second unit under tensor parallelism pays while an all-reduce takes less than" in text
    assert "assumed:" in text


def test_a_profile_is_used_and_its_gaps_are_said(capsys: Captured, saved: Path) -> None:
    found = document(capsys, "--model", "llama-3.1-70b", "--tp", "1,2,4", "--profile", str(saved))
    one, two, four = found["configurations"]
    assert one["ceiling_tokens_per_s"] == pytest.approx(100e9 / found["bytes_per_token"])
    assert two["terms_us"]["link_latency"] == pytest.approx(160 * 20)
    assert four["terms_us"]["link_latency"] == pytest.approx(160 * 30)
    said = found["assumptions"]
    assert any(note.startswith("tp4: no all-reduce of 4 ranks in the profile; measure it") for note in said)
    assert any("HOST's" in note for note in said)
    assert any("gloo over loopback" in note for note in said)


def test_a_config_json_is_read(capsys: Captured, tmp_path: Path) -> None:
    config = {
        "model_type": "qwen3",
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 18,
        "num_key_value_heads": 6,
        "vocab_size": 1536,
        "num_nextn_predict_layers": 1,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = document(capsys, "--config", str(tmp_path), "--tp", "3")
    assert [c["parallelism"] for c in found["configurations"]] == ["tp3"]
    assert "1 multi-token prediction layer left out" in found["assumptions"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["--model", "qwen3-coder-30b-a3b", "--tp", "1,3"], "32 query heads", id="one value of several"),
        pytest.param(["--model", "gpt-oss-120b", "--tp", "3"], "64 query heads, which don't divide over 3", id="tp3"),
        pytest.param([], "which model? --model", id="no model"),
        pytest.param(["--model", "gpt-oss-12b"], "did you mean 'gpt-oss-120b'", id="unknown model"),
        pytest.param(["--model", "gpt-oss-120b", "--format", "q9"], "no weight format 'q9'", id="unknown format"),
        pytest.param(["--model", "gpt-oss-120b", "--tp", "5"], "1 to 4 units", id="five units"),
        pytest.param(["--model", "gpt-oss-120b", "--tp", "0"], "at least 1", id="no units"),
        pytest.param(["--model", "gpt-oss-120b", "--tp", "1,,2"], "at least 1", id="a gap in the list"),
        pytest.param(["--model", "gpt-oss-120b", "--batch", "65"], "--batch 65: expected 1 to 64", id="large batch"),
        pytest.param(["--model", "gpt-oss-120b", "--batch", "0"], "at least 1", id="no batch"),
        pytest.param(["--model", "gpt-oss-120b", "--context", "-1"], "--context", id="negative context"),
        pytest.param(["--model", "gpt-oss-120b", "--context", "99999999"], "at most", id="absurd context"),
        pytest.param(["--model", "gpt-oss-120b", "--draft", "4"], "--acceptance X go together", id="draft alone"),
        pytest.param(["--model", "gpt-oss-120b", "--acceptance", "0.5"], "go together", id="acceptance alone"),
        pytest.param(
            ["--model", "gpt-oss-120b", "--draft", "1", "--acceptance", "1.5"], "between 0 and 1", id="acceptance 1.5"
        ),
        pytest.param(["--model", "gpt-oss-120b", "--bandwidth", "nan"], "not a number", id="bandwidth nan"),
        pytest.param(["--model", "gpt-oss-120b", "--bandwidth", "0"], "above 0", id="bandwidth 0"),
        pytest.param(["--model", "gpt-oss-120b", "--allreduce-us", "inf"], "not a number", id="all-reduce inf"),
        pytest.param(["--model", "gpt-oss-120b", "--profile", "missing.json"], "no such file", id="no profile"),
        pytest.param(["--model", "gpt-oss-120b", "--compare", "--tp", "2"], "leave out --tp", id="compare with tp"),
        pytest.param(["--model", "gpt-oss-120b", "--validate"], "not allowed with", id="validate a model"),
        pytest.param(["--config", "missing.json"], "can't read missing.json", id="no config"),
    ],
)
def test_what_cannot_be_answered_is_one_line_and_status_2(capsys: Captured, arguments: list[str], said: str) -> None:
    status, message = refusal(capsys, *arguments)
    assert status == 2
    assert said in message


def test_a_profile_and_a_bandwidth_are_one_too_many(capsys: Captured, saved: Path) -> None:
    status, message = refusal(capsys, "--model", "gpt-oss-120b", "--profile", str(saved), "--bandwidth", "200")
    assert status == 2 and "give one of them" in message


def test_a_profile_without_a_read_is_status_3(capsys: Captured, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    empty = Run(environment=environment(), measurements=(), collectives=(), skipped=(), ended=None)
    build_profile(empty).save(path)
    status, message = refusal(capsys, "--model", "gpt-oss-120b", "--profile", str(path))
    assert status == 3 and "`roofprobe memory`" in message


def test_compare_and_validate_are_documents_too(capsys: Captured) -> None:
    compared = document(capsys, "--model", "gpt-oss-120b", "--compare")
    assert len(compared["systems"]) == 11
    validated = document(capsys, "--validate")
    assert validated["defaults"]["efficiency"]["mid"] == pytest.approx(0.942)
    assert main(["--validate"]) == 0
    assert capsys.readouterr().out.startswith("# Predicted and measured")


def test_bytes_by_part_add_up_and_divisibility_is_told(capsys: Captured) -> None:
    found = document(capsys, "--model", "gpt-oss-120b", "--format", "gguf-mxfp4")
    assert sum(found["bytes_per_token_by_part"].values()) == pytest.approx(found["bytes_per_token"], abs=4)
    assert found["bytes_per_token_by_part"]["expert"] == 36 * 4 * 3 * 2880 * 2880 * 17 // 32
    assert found["divides"] == {"2": True, "3": False, "4": True}


def test_what_a_model_is_counted_otherwise_by_is_said(capsys: Captured) -> None:
    for model, words in (("llama-4-maverick", "chunked"), ("deepseek-v3", "multi-token prediction layer")):
        found = document(capsys, "--model", model)
        assert any(words in note for note in found["assumptions"])

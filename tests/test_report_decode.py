"""The report's section on decode: pictures whose figures are those of `predict` and `claims`, and nobody else's."""

import re

import example_runs
from msgspec.structs import replace
import pytest
import records
from report_page import Page

from roofprobe import units
from roofprobe.claims import judge_all
from roofprobe.claims_data import claims_file
from roofprobe.claims_limits import measured, usual
from roofprobe.load_record import MatmulRate
from roofprobe.models import find_model, models
from roofprobe.profile import build_profile
from roofprobe.profile_machine import profile_machine
from roofprobe.report import render
from roofprobe.report_decode import CONTEXT, claims_section, decode_section
from roofprobe.report_panels import ROOFLINE_MARKS, panels
from roofprobe.roofline_chart import MARKS, kernel_points
from roofprobe.scaling import fits_so, predict
from roofprobe.step_terms import Workload

GB10 = build_profile(example_runs.gb10())


def test_every_model_of_the_catalogue_is_predicted_as_predict_does() -> None:
    section = decode_section(GB10)
    assert section is not None
    assert [panel.model for panel in section.panels] == list(models())
    panel = next(p for p in section.panels if p.model.name == "gpt-oss-120b")
    work = Workload(find_model("gpt-oss-120b"), "as-shipped", context=CONTEXT)
    for found in panel.predictions:
        machine = profile_machine(GB10, work, found.units, found.units, None).machine
        assert found == predict(work, machine, "tp", found.units)
    assert [p.units for p in panel.predictions] == [1, 2, 4]  # 64 heads do not divide by 3
    assert f"1 unit {units.number(panel.predictions[0].expected_tokens_per_s.mid)} " in panel.chart


def test_a_bars_parts_are_the_terms_of_its_step_and_touch() -> None:
    section = decode_section(GB10)
    assert section is not None
    for panel in section.panels:
        longest = max(bar.seconds for bar in panel.bars)
        for bar, found in zip(panel.bars, panel.predictions, strict=True):
            assert bar.seconds == pytest.approx(found.terms.total)
            assert sum(part.seconds for part in bar.parts) == pytest.approx(bar.seconds)
            assert bar.parts[-1].start + bar.parts[-1].width == pytest.approx(100 * bar.seconds / longest)
            for left, right in zip(bar.parts, bar.parts[1:], strict=False):
                assert left.start + left.width == pytest.approx(right.start)
            work = Workload(panel.model, "as-shipped", context=CONTEXT)
            assert bar.fits == fits_so(work, "tp", bar.units)


def test_a_model_too_large_says_so_beside_its_bar() -> None:
    page = Page(render(example_runs.gb10())).section("Decode on units like this one")
    deepseek = page[page.index("Where the time of a token goes") :].split("What DeepSeek V3")[0]
    assert deepseek.count("does not fit") == 3  # 689 GB on 1, 2 and 4 units
    assert "does not fit those units, at 121.6 GiB each" in page


def test_a_hosts_figures_are_called_a_hosts() -> None:
    section = Page(render(example_runs.unknown_cpu())).section("Decode on units like this one")
    assert "CPU memory read of 34" in section and "no GPU was measured" in section
    assert "no GPU was measured" not in Page(render(example_runs.gb10())).section("Decode on units like this one")


def test_without_a_read_of_the_memory_nothing_is_predicted() -> None:
    html = render(example_runs.only_skipped())
    assert "Decode on units like this one" not in html and "Roofline" not in html


def test_what_a_run_on_gb10_measured_judges_the_claims_and_no_other_run_does() -> None:
    on_gb10, elsewhere = claims_section(GB10), claims_section(build_profile(example_runs.unknown_cpu()))
    assert list(on_gb10.judged) == judge_all(claims_file(), measured(GB10).limits)
    assert list(elsewhere.judged) == judge_all(claims_file(), usual().limits)
    assert on_gb10.held.source != elsewhere.held.source == claims_section(None).held.source


def test_every_claim_is_in_the_table_with_its_verdict() -> None:
    page = Page(render(example_runs.gb10())).section("Published claims")
    for judged in claims_section(GB10).judged:
        assert judged.claim.id in page and judged.arithmetic in page
    assert sum(count for _, count in claims_section(GB10).counts) == len(claims_file_claims())


def claims_file_claims() -> list[object]:
    return [claim for document in claims_file().documents for claim in document.claims]


def test_intensity_is_flop_over_useful_bytes() -> None:
    """bf16 at batch 1: 2 N K flop over 2 N K bytes of weights; nvfp4 at batch 4: 8 N K over 0.5625 N K."""
    (device, *_) = panels(example_runs.gb10())
    points = kernel_points(device.rows)
    by_format = {(p.format, round(p.flop_per_byte)): p for p in points}
    assert set(by_format) == {("bf16", 1), ("nvfp4", 4), ("nvfp4", 14)}
    bf16 = by_format["bf16", 1]
    row = next(m for m in device.rows if m.op == "gemv" and m.format == "bf16")
    assert bf16.gflop_per_s / bf16.flop_per_byte == pytest.approx(row.gb_per_s)


def test_neither_baselines_nor_hot_nor_wrong_rows_are_under_the_roof() -> None:
    row = records.measurement(probe="gemv", op="gemv", n=64, k=64, batch=1, wrong=0)
    shown = [row]
    hidden = [replace(row, backend="torch"), replace(row, residency="hot"), replace(row, wrong=3)]
    assert len(kernel_points(shown)) == 1 and kernel_points(hidden) == ()


def test_the_compute_roof_is_drawn_where_a_matmul_was_measured() -> None:
    run = example_runs.gb10()
    rate = MatmulRate(
        side="device", processor="NVIDIA GB10", backend="torch", m=4096, n=4096, k=4096, wrong=0,
        timing=records.timing([2 * 4096**3 / 84e12] * 7),
    )  # fmt: skip
    assert "matmul 84.0 TFLOP/s" in render(replace(run, matmuls=(rate,)))
    assert "matmul 84" not in render(replace(run, matmuls=(replace(rate, wrong=1),)))


def test_the_legend_draws_the_charts_colours() -> None:
    from roofprobe.chart_svg import ROLES

    assert {name: ROLES[colour] for name, (_, colour) in MARKS.items()} == {
        name: role for name, (_, role) in ROOFLINE_MARKS.items()
    }


def test_rooflines_of_several_memories_keep_their_ids_apart() -> None:
    html = render(example_runs.gb10())
    found = set(re.findall(r'id="(roofline-\d+)-', html))
    assert found == {"roofline-1", "roofline-2"}

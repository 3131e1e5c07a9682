"""What the report says, read from its HTML: every figure with its unit, nothing borrowed, nothing invalid as a bar."""

from pathlib import Path
import re

import example_runs
from example_runs import CPU_MEMORY, HOSTILE, UNIFIED
import pytest
import records
from report_page import Page

from roofprobe import units
from roofprobe.errors import BadInput
from roofprobe.measurement import Measurement
from roofprobe.report import cautions, headline, highlights, render, write_report
from roofprobe.report_panels import panels
from roofprobe.run_file import Run

RUNS = {
    "unknown CPU": example_runs.unknown_cpu,
    "GB10": example_runs.gb10,
    "faulty": example_runs.faulty,
    "nothing measured": example_runs.only_skipped,
    "interrupted": example_runs.interrupted,
    "hostile": example_runs.hostile,
}
every_run = pytest.mark.parametrize("run", [pytest.param(make(), id=name) for name, make in RUNS.items()])


def bars(page: Page) -> int:
    return len(page.classed("rect", "bar")) + len(page.classed("rect", "bar-kernel"))


@every_run
def test_is_one_well_formed_file_that_refers_to_nothing(run: Run) -> None:
    html = render(run)
    page = Page(html)  # asserts that tags nest
    names = {tag for tag, _ in page.tags}
    assert names.isdisjoint({"script", "img", "iframe", "object", "image", "foreignobject", "base"})
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert "://" not in html and "@import" not in html
    assert not page.having("src") and not page.having("srcset")
    assert {reference for reference in page.having("href") if not reference.startswith("#")} == {"data:,"}
    assert "default-src 'none'" in page.having("content")[2]


@every_run
def test_ids_are_unique_and_every_reference_to_one_resolves(run: Run) -> None:
    html = render(run)
    page = Page(html)
    ids = page.having("id")
    assert len(ids) == len(set(ids))
    used = [reference[1:] for reference in page.having("href") if reference.startswith("#")]
    assert set(used + re.findall(r"url\(#([^)]+)\)", html)) <= set(ids)


@every_run
def test_same_run_same_bytes(run: Run) -> None:
    assert render(run) == render(run)


@every_run
def test_every_drawing_has_a_name_and_takes_the_pages_colours(run: Run) -> None:
    html = render(run)
    drawings = [a for tag, a in Page(html).tags if tag == "svg"]
    assert all(a.get("aria-label") for a in drawings if a.get("role") == "img")
    body = html[html.index("<body>") :]
    assert not re.search(r"(?:fill|stroke|color)[:=]\s*\"?#", body)
    assert "DejaVu" not in body


@every_run
def test_every_usable_row_has_one_bar_and_its_figures_with_units(run: Run) -> None:
    page = Page(render(run))
    usable = [m for m in run.measurements if not m.invalid]
    assert bars(page) == len(usable)
    for m in usable:
        assert m.interval is not None
        assert units.rate(m.gb_per_s) in page.text
        assert units.between(m.interval) in page.text
        assert f"{m.useful_bytes / 1e6:.4g}" in page.text or m.probe == "memory"
        if m.ceiling_fraction is not None:
            assert f"{units.percent(m.ceiling_fraction, 1)} of {m.reference}" in page.text


def test_headline_is_the_first_sides_read_ceiling() -> None:
    run = example_runs.gb10()
    read = run.measurements[0]
    assert read.gb_per_s is not None
    assert headline(run) == f"GPU memory read {read.gb_per_s:.1f} GB/s, 85 % of nominal"
    html = render(run)
    assert f"<title>NVIDIA DGX Spark: {headline(run)} (roofprobe)</title>" in html
    assert "2026-01-02 03:04 UTC" in html and "dgx-spark" in html


def test_ceilings_say_where_the_nominal_figure_was_read() -> None:
    section = Page(render(example_runs.gb10())).section("GPU: NVIDIA GB10")
    assert "273.1" in section and "8533 MT/s" in section


def test_device_and_host_never_share_a_section() -> None:
    run = example_runs.gb10()
    page = Page(render(run))
    sections = {"device": page.section("GPU: NVIDIA GB10"), "host": page.section(UNIFIED)}
    for m in run.measurements:
        if "only" in m.memory:  # one core type's: a section of its own
            continue
        other = sections["host" if m.side == "device" else "device"]
        assert units.rate(m.gb_per_s) in sections[m.side]
        assert units.rate(m.gb_per_s) not in other
        assert units.between(m.interval) not in other
    assert "NVIDIA GB10" not in sections["host"] and "CPU side" not in sections["device"]


def test_a_core_types_figures_have_their_own_section_and_no_highlight() -> None:
    run = example_runs.gb10()
    alone = [m for m in run.measurements if "Cortex-A725 only" in m.memory]
    section = Page(render(run)).section(f"{UNIFIED}, 10x Cortex-A725 only")
    assert alone and all(units.rate(m.gb_per_s) in section for m in alone)
    assert [h.label for h in highlights(run)].count("CPU memory read") == 1


def test_an_unknown_machine_has_no_nominal_ceiling() -> None:
    page = Page(render(example_runs.unknown_cpu()))
    assert "—  unknown machine" in page.section(CPU_MEMORY)
    assert not re.search(r"\d % of nominal", page.text)
    assert not page.classed("line", "nominal")


def test_a_reading_from_the_caches_runs_off_the_scale_instead_of_setting_it() -> None:
    panel = panels(example_runs.gb10())[0]
    hot = next(m for m in panel.rows if m.residency == "hot")
    assert hot.gb_per_s is not None and hot.gb_per_s > panel.scale_gb_per_s
    assert panel.scale_gb_per_s == pytest.approx(1.04 * 273.1)
    assert panel.place(hot.gb_per_s) == "100.00%"
    assert "(hot)" in Page(render(example_runs.gb10())).section("GPU: NVIDIA GB10")


def test_invalid_rows_are_struck_with_their_reason_and_have_no_bar() -> None:
    run = example_runs.faulty()
    page = Page(render(run))
    invalid = [m for m in run.measurements if m.invalid]
    assert len(invalid) == 2
    for m in invalid:
        assert page.text.count(m.invalid or "") >= 2  # beside its missing bar, and in the table
        assert f"{m.op} {m.format}" in page.struck
        assert not [label for label in page.having("aria-label") if label.startswith(f"{m.op} {m.format}:")]
    impossible = next(m for m in invalid if m.op == "write")
    assert units.number(impossible.gb_per_s) in page.struck
    assert "273.1" not in page.struck
    assert "2 rows can't be used" in page.text
    assert not any(_mentions(h.value, impossible) for h in highlights(run))


def _mentions(text: str, m: Measurement) -> bool:
    return units.rate(m.gb_per_s) in text


def test_cautions() -> None:
    assert cautions(example_runs.gb10()) == []
    assert "interrupted" in cautions(example_runs.interrupted())[0]
    assert "no end record" in cautions(example_runs.interrupted(killed=True))[0]
    faulty = " ".join(cautions(example_runs.faulty()))
    assert "1 message size of a collective gave wrong results" in faulty
    assert "in 2 rows most samples were disturbed" in faulty
    assert "1 fit of a collective missed a size by more than 50 %" in faulty
    assert all("poor fit" in h.detail for h in highlights(example_runs.faulty()) if "all_reduce" in h.label)
    assert all(text in Page(render(example_runs.faulty())).text for text in cautions(example_runs.faulty()))


def test_disturbed_rows_are_drawn_unlike_the_others_and_say_so() -> None:
    page = Page(render(example_runs.faulty()))
    assert len(page.classed("rect", "busy")) == 2
    assert "0/15 samples undisturbed" in page.text and "6/15 samples undisturbed" in page.text
    assert not Page(render(example_runs.gb10())).classed("rect", "busy")
    alone = records.measurement(timing=records.timing([0.01] * 7, rejected=dict.fromkeys(range(6), "busy")))
    assert headline(example_runs.run(records.environment(), [alone], [], [])).endswith("(⚠ machine busy: a floor)")


def test_a_run_of_nothing_says_why() -> None:
    run = example_runs.only_skipped()
    page = Page(render(run))
    assert "no memory read was measured" in page.text and "Nothing was measured" in page.text
    for skipped in run.skipped:
        assert skipped.reason in page.section("Skipped") and skipped.case in page.section("Skipped")


def test_collective_shows_transport_fit_and_every_size() -> None:
    run = example_runs.unknown_cpu()
    (collective,) = run.collectives
    html = render(run)
    page = Page(html)
    section = page.section(f"all_reduce, 2 ranks: {collective.transport}")
    assert "61.0" in section and "[59.2, 62.8]" in section  # alpha, µs
    assert "2.90" in section and "[2.84, 2.96]" in section  # beta, GB/s
    assert "173 KiB" in section  # n1/2 = alpha beta / factor = 61e-6 * 2.9e9 = 176900 bytes
    assert all(f"\n{point.bytes}\n" in re.sub(r"\s+", "\n", section) for point in collective.points)
    told = ("Bus bandwidth", "Time against")
    charts = [c for c in page.classed("svg", "chart") if c["aria-label"].startswith(told)]
    assert [c["viewbox"] for c in charts] == ["0 0 360 259.2"] * 2
    assert ["Bus bandwidth" in c["aria-label"] for c in charts] == [True, False]
    assert "beta 2.90 GB/s" in html and "alpha 61 µs" in html


def test_busbw_is_message_bytes_times_the_factor_over_the_median_time() -> None:
    collective = records.collective(bus_factor=1.5)
    section = Page(render(example_runs.run(records.environment(), [], [collective], []))).section("all_reduce")
    # 1 MiB in 20 µs + 1 MiB / 10 GB/s = 124.9 µs: 8.40 GB/s of message, 12.6 GB/s on the bus.
    row = re.search(r"1 MiB\s*1048576\s*125 µs\s*125 µs\s*([\d.]+)\s*([\d.]+)\s*0", section)
    assert row is not None
    assert row.groups() == ("8.40", "12.6")


def test_wrong_sums_are_crossed_out() -> None:
    page = Page(render(example_runs.faulty()))
    assert len(page.classed("tr", "wrong")) == 1
    assert "3 ✕" in page.section("all_reduce")


@pytest.mark.parametrize(
    ("changes", "charts"),
    [
        pytest.param({"world_size": 1, "bus_factor": 0.0, "fit": ()}, 1, id="group of one: no bus, so no busbw chart"),
        pytest.param({"points": (), "fit": ()}, 0, id="no size"),
        pytest.param({"points": records.collective().points[:1], "fit": ()}, 2, id="one size, no fit"),
    ],
)
def test_collectives_that_show_less(changes: dict[str, object], charts: int) -> None:
    run = example_runs.run(records.environment(), [], [records.collective(**changes)], [])
    page = Page(render(run))
    assert len(page.classed("svg", "chart")) == charts
    assert "alpha, µs" not in page.text
    assert highlights(run) == []


def test_hostile_texts_are_shown_and_never_obeyed() -> None:
    run = example_runs.hostile()
    html = render(run)
    page = Page(html)  # the tags themselves are checked for every run, above
    for text in HOSTILE:
        assert text in page.text
        assert text == "x" * 400 or text not in html
    assert "{{ 7*7 }}" in page.text and "49" not in page.section("GPU: </style>").split("Ceilings")[0]


def test_write_report_reads_the_folder_and_leaves_one_whole_file(tmp_path: Path) -> None:
    run = example_runs.unknown_cpu()
    example_runs.save(run, tmp_path)
    with open(tmp_path / "measurements.jsonl", "ab") as file:
        file.write(b'{"record":"measurement","probe":"mem')  # torn, as by a power cut
    path = write_report(tmp_path)
    assert path == tmp_path / "report.html"
    assert path.read_text(encoding="utf-8") == render(run)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["measurements.jsonl", "report.html"]


def test_write_report_without_records_says_so_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="can't read"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())

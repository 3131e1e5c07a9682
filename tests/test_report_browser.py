"""The report in a real browser: a phone and a desk, light and dark. Nothing overflows, logs an error or fades away."""

from collections.abc import Iterator
from pathlib import Path
import shutil
from typing import Any

import acceptance_folders
from acceptance_judging import each, judged, scaled
import example_runs
from msgspec.structs import replace
import pytest

from roofprobe.acceptance.folder import write_outputs
from roofprobe.report import write_report

pytestmark = pytest.mark.browser

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # containers run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
RUNS = {
    "unknown CPU": example_runs.unknown_cpu,
    "GB10": example_runs.gb10,
    "baselines": example_runs.baselines,
    "faulty": example_runs.faulty,
    "nothing measured": example_runs.only_skipped,
    "hostile": example_runs.hostile,
}

# WCAG's relative luminance and contrast, of each element that holds text itself, against the nearest background that
# is not transparent. Text in a drawing is filled, not coloured.
CONTRAST = """
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
function rgba(colour) {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  return canvas.getImageData(0, 0, 1, 1).data;
}
function luminance(colour) {
  const [r, g, b] = [...rgba(colour)].slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function contrast(a, b) {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
}
function background(element) {
  for (let e = element; e; e = e.parentElement) {
    const colour = getComputedStyle(e).backgroundColor;
    if (rgba(colour)[3] > 0) return colour;
  }
  return "white";
}
"""
TEXT_CONTRASTS = (
    CONTRAST
    + """
return [...document.body.querySelectorAll("*")]
  .filter(e => [...e.childNodes].some(n => n.nodeType === Node.TEXT_NODE && n.data.trim()) && e.tagName !== "title")
  .map(e => [contrast(getComputedStyle(e)[e instanceof SVGElement ? "fill" : "color"], background(e)),
             e.outerHTML.slice(0, 90)]);
"""
)
MARK_CONTRASTS = (
    CONTRAST
    + """
const style = getComputedStyle(document.documentElement);
return ["--mark", "--mark-2", "--line", "--read", "--copy", "--bad"]
  .map(name => [contrast(style.getPropertyValue(name), getComputedStyle(document.body).backgroundColor), name]);
"""
)
# Elements that stick out of the window, but for what a container of its own scrolls.
STICKING_OUT = """
const right = document.documentElement.clientWidth + 0.5;
return [...document.body.querySelectorAll("*")]
  .filter(e => !e.closest(".scroll") && !(e instanceof SVGElement && e.ownerSVGElement))
  .filter(e => e.getBoundingClientRect().right > right || e.getBoundingClientRect().left < -0.5)
  .map(e => e.outerHTML.slice(0, 120));
"""
SVG_SIZES = """
return [...document.querySelectorAll("svg")].filter(e => !e.ownerSVGElement)
  .map(e => [e.getBoundingClientRect().width, e.getBoundingClientRect().height, e.outerHTML.slice(0, 120)]);
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if BROWSER is None or DRIVER is None:
        pytest.skip("not installed: chromium or chromedriver (Debian: chromium, chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


FAULT = {"id": "link.port-down", "severity": "fault", "host": "h", "evidence": "state" * 40, "remedy": "a cable"}


def accepted(folder: Path) -> Path:
    """A pair with every verdict: faults with long evidence, an unchecked copy, a product that was not measured."""
    slow = each(lambda m: scaled(m, 2), side="device", op="read")(acceptance_folders.pair_run())
    unchecked = each(lambda m: replace(m, wrong=None), side="device", op="copy")(slow)
    acceptance = judged(replace(unchecked, matmuls=()), folder, nodes=2, faults=[FAULT])
    assert {check.verdict for check in acceptance.checks} == {"PASS", "FAIL", "INCONCLUSIVE", "SKIP"}
    write_outputs(folder, acceptance)
    return write_report(folder)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    drawn = {name: write_report(example_runs.save(make(), folder / name)) for name, make in RUNS.items()}
    return {**drawn, "accepted": accepted(folder / "accepted")}


def show(browser: Any, page: Path, width: int, scheme: str) -> None:
    device = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
    scheme_feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme_feature]})
    browser.get(page.as_uri())
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [pytest.param(360, id="phone"), pytest.param(1200, id="desk")])
@pytest.mark.parametrize("name", [*RUNS, "accepted"])
def test_page(browser: Any, pages: dict[str, Path], name: str, width: int, scheme: str) -> None:
    show(browser, pages[name], width, scheme)
    assert browser.get_log("browser") == []
    assert "roofprobe" in browser.title and browser.title != "owned"

    assert browser.execute_script(STICKING_OUT) == []
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")

    sizes = browser.execute_script(SVG_SIZES)
    assert [svg for w, h, svg in sizes if w < 10 or h < 10] == []
    assert len(sizes) > 5 or name == "nothing measured"

    texts = browser.execute_script(TEXT_CONTRASTS)
    assert len(texts) > 30
    assert [(round(ratio, 2), html) for ratio, html in texts if ratio < 4.5] == []
    assert [(round(ratio, 2), mark) for ratio, mark in browser.execute_script(MARK_CONTRASTS) if ratio < 3] == []


def test_a_phone_shows_each_verdict_beside_its_check(browser: Any, pages: dict[str, Path]) -> None:
    show(browser, pages["accepted"], 360, "light")
    cells = browser.execute_script(
        "return [...document.querySelectorAll('#acceptance tbody tr')].map(r => [r.cells[0], r.cells[1]]"
        ".map(c => [c.getBoundingClientRect().left, c.getBoundingClientRect().right, c.textContent]))"
    )
    assert len(cells) > 20
    assert all(verdict[1] <= 360 and check[0] <= 180 for verdict, check in cells)
    assert {"✕ FAIL", "PASS", "INCONCLUSIVE", "SKIP"} == {verdict[2] for verdict, _ in cells}
    assert browser.execute_script("return document.querySelectorAll('#acceptance p.bad').length") >= 2


def test_a_run_of_a_gpu_shows_what_follows_for_decode(browser: Any, pages: dict[str, Path]) -> None:
    show(browser, pages["GB10"], 1200, "light")
    heading = "[...document.querySelectorAll('h2')].find(h => h.textContent.startsWith('Decode on'))"
    assert browser.execute_script(f"return {heading}.parentElement.querySelectorAll('svg').length") >= 3


def test_dark_is_dark_and_light_is_light(browser: Any, pages: dict[str, Path]) -> None:
    backgrounds = []
    for scheme in ("light", "dark"):
        show(browser, pages["GB10"], 1200, scheme)
        script = f"{CONTRAST} return luminance(getComputedStyle(document.body).backgroundColor)"
        backgrounds.append(browser.execute_script(script))
    assert backgrounds[0] > 0.9 and backgrounds[1] < 0.05


def test_bars_and_charts_are_legible_on_a_phone(browser: Any, pages: dict[str, Path]) -> None:
    show(browser, pages["GB10"], 360, "light")
    heights = browser.execute_script(
        "return [...document.querySelectorAll('svg text')].map(e => [e, e.getScreenCTM()])"
        ".map(([e, m]) => parseFloat(getComputedStyle(e).fontSize) * Math.hypot(m.a, m.b))"
    )
    assert len(heights) > 20
    assert min(heights) >= 9.9  # px on the screen, after the drawing was scaled
    drawings = "return [...document.querySelectorAll('.chart, .bars svg')].filter(e => !e.ownerSVGElement)"
    widths = browser.execute_script(f"{drawings}.map(e => e.getBoundingClientRect().width)")
    assert min(widths) > 300


def test_a_bars_length_is_its_rate(browser: Any, pages: dict[str, Path]) -> None:
    """Drawn in percent of the row: the pixels must be in the ratio of the rates, whatever the width."""
    run = example_runs.unknown_cpu()
    rates = [m.gb_per_s or 0 for m in run.measurements if m.probe == "memory"]
    for width in (360, 1200):
        show(browser, pages["unknown CPU"], width, "light")
        drawn = browser.execute_script(
            "return [...document.querySelectorAll('rect.bar')].map(e => e.getBoundingClientRect().width)"
        )
        assert [d / drawn[0] for d in drawn] == pytest.approx([r / rates[0] for r in rates], rel=0.01)

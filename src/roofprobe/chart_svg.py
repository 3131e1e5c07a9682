"""How every drawing of a report is made: matplotlib draws, and the SVG takes the page's colours and fonts.

matplotlib draws in colours that stand for roles; in the SVG text each becomes a CSS variable, so that one
drawing serves the light and the dark page. Fonts are the page's. A drawing is 360 units wide, a phone's width, so
that a unit is about a pixel there. The same records give the same bytes: no date, no random ids.

No text of a record is drawn, only numbers: a stray ``$`` would start matplotlib's formula language.
"""

from __future__ import annotations

import io
import re
from typing import Any

from markupsafe import Markup, escape
from matplotlib.figure import Figure

INK, RULE, MARK, MARK_2, LINE, BAD = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
READ, COPY, PAGE = "#070707", "#080808", "#090909"
ROLES = {
    INK: "--muted",
    RULE: "--rule",
    MARK: "--mark",
    MARK_2: "--mark-2",
    LINE: "--line",
    BAD: "--bad",
    READ: "--read",
    COPY: "--copy",
    PAGE: "--page",
}
"""Drawn colour -> the page's variable."""

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "roofprobe",
    "font.size": 11,
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
}
INCHES = (5.0, 3.6)
"""SVG counts 72 units an inch: 360 by 259."""


def svg(figure: Figure, name: str, label: str) -> Markup:
    """The drawing as an element of an HTML page: no prologue, no name spaces, own ids, the page's colours."""
    written = io.StringIO()
    figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    width, height = (72 * inches for inches in INCHES)
    drawing = written.getvalue()
    inside = drawing[drawing.index(">", drawing.index("<svg")) + 1 : drawing.rindex("</svg>")]
    inside = re.sub(r"<metadata>.*?</metadata>", "", inside, flags=re.DOTALL)
    inside = re.sub(r"<!--.*?-->\s*", "", inside, flags=re.DOTALL)
    inside = re.sub(r"<style.*?</style>", "", inside, flags=re.DOTALL)
    inside = re.sub(r"font-family: [^;]*; ", "", inside)
    inside = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', inside)
    inside = re.sub(r'(?:xlink:)?href="#([^"]+)"', rf'href="#{name}-\1"', inside)
    inside = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", inside)
    for colour, role in ROLES.items():
        inside = inside.replace(colour, f"var({role})")
    title = escape(label)
    opening = f'<svg class="chart" role="img" aria-label="{title}" viewBox="0 0 {width:g} {height:g}">'
    return Markup(f"{opening}<title>{title}</title>{inside.strip()}</svg>")

"""An acceptance as JUnit XML: a test case a check, for CI systems that show those.

FAIL is a failure with the fault's id as its type. A required INCONCLUSIVE is an error, since a CI system shows a
skipped case as green, and what was required and not decided must not be; one that was not required is skipped. SKIP is
skipped, and the last case, which asks whether everything required was decided, is an error where a required one is.
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

from roofprobe.acceptance.folder import Acceptance
from roofprobe.acceptance.rules import told
from roofprobe.acceptance.verdict import Check

ALL_DECIDED = "every required check decided"


def as_junit(acceptance: Acceptance) -> str:
    """The document as text, with its XML declaration."""
    suite = ET.Element("testsuite", name=_clean(f"roofprobe accept {acceptance.platform}"), time="0")
    suite.set("timestamp", _clean(acceptance.created))
    suite.set("hostname", _clean(acceptance.host))
    for check in acceptance.checks:
        _add(suite, acceptance, check)
    _add_decided(suite, acceptance)
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(sum(case.find(tag) is not None for case in suite)))
    suite.set("tests", str(len(suite)))
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _case(suite: ET.Element, acceptance: Acceptance, name: str) -> ET.Element:
    return ET.SubElement(suite, "testcase", classname=_clean(f"roofprobe.{acceptance.platform}"), name=name, time="0")


def _add(suite: ET.Element, acceptance: Acceptance, check: Check) -> None:
    case = _case(suite, acceptance, check.check)
    reason = check.reason or "no reason was given"
    if check.verdict == "FAIL":
        ids = ", ".join(dict.fromkeys(fault.id for fault in check.faults))
        failure = ET.SubElement(case, "failure", type=_clean(ids), message=_clean(f"{check.title}: {ids}"))
        failure.text = _clean(
            "\n\n".join(f"{f.id} on {f.host}\n{f.evidence}\nremedy: {f.remedy}" for f in check.faults)
        )
    elif check.verdict == "INCONCLUSIVE" and check.required:
        ET.SubElement(case, "error", type="inconclusive", message=_clean(reason))
    elif check.verdict in ("INCONCLUSIVE", "SKIP"):
        ET.SubElement(case, "skipped", message=_clean(reason))
    if check.measured is not None:
        limits = "; ".join(f"{bound.text} ({bound.source})" for bound in check.limits)
        ET.SubElement(case, "system-out").text = _clean(f"{check.title}: {told(check)}; {limits}")


def _add_decided(suite: ET.Element, acceptance: Acceptance) -> None:
    case = _case(suite, acceptance, ALL_DECIDED)
    if acceptance.open or (acceptance.exit_status and acceptance.verdict != "FAIL"):
        names = ", ".join(check.check for check in acceptance.open) or "nothing was decided"
        ET.SubElement(case, "error", type="not-measured", message=_clean(names))


def _clean(text: str) -> str:
    """Without what XML 1.0 can't hold: control characters, surrogates, two non-characters."""
    return "".join(c if _allowed(ord(c)) else "\N{REPLACEMENT CHARACTER}" for c in text)


def _allowed(code: int) -> bool:
    return code in (0x9, 0xA, 0xD) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000

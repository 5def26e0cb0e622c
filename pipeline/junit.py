"""JUnit XML, as every CI system reads it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

__all__ = ["OUTCOMES", "Case", "Outcome", "document"]

Outcome = Literal["passed", "failed", "skipped"]
OUTCOMES: tuple[Outcome, ...] = ("passed", "failed", "skipped")
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Case:
    """One test case; `message` says why it failed or was skipped."""

    classname: str
    name: str
    seconds: float
    outcome: Outcome
    message: str = ""


def document(suite: str, cases: Iterable[Case]) -> str:
    """Return `cases` as a JUnit XML document with one suite."""
    found = tuple(cases)
    root = ET.Element("testsuites")
    element = ET.SubElement(
        root,
        "testsuite",
        name=_clean(suite),
        tests=str(len(found)),
        failures=str(sum(case.outcome == "failed" for case in found)),
        errors="0",
        skipped=str(sum(case.outcome == "skipped" for case in found)),
        time=f"{sum(case.seconds for case in found):.3f}",
    )
    for case in found:
        _append(element, case)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _append(suite: ET.Element, case: Case) -> None:
    attributes = {"classname": _clean(case.classname), "name": _clean(case.name), "time": f"{case.seconds:.3f}"}
    element = ET.SubElement(suite, "testcase", attributes)
    if case.outcome != "passed":
        message = _clean(case.message)
        first, _, _ = message.partition("\n")
        ET.SubElement(element, "failure" if case.outcome == "failed" else "skipped", message=first).text = message


def _clean(text: str) -> str:
    """Replace what XML cannot hold, such as the colour codes of a program's output."""
    return _FORBIDDEN.sub("\ufffd", text)

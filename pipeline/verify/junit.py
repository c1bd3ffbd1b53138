"""JUnit XML of a verification, for continuous integration: a test suite for each engine, a test case for each check.

Source: the rules of ``jenkins-junit.xsd`` (Jenkins' xUnit plugin), which GitLab and GitHub's actions read as well.
"""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

from pipeline.files import write_bytes
from pipeline.verify.parity_report import Check, ParityReport

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(report: ParityReport, path: Path) -> None:
    """Write a report as JUnit XML; versions and hashes are properties of every suite.

    Raises:
        PipelineError: the file cannot be written.
    """
    made = [*report.checks, *report.engine_checks, *report.endpoint_checks]
    root = ET.Element("testsuites", {"name": "pipeline verify", **_counts(made)})
    for engine in dict.fromkeys(check.engine for check in made):
        _add_suite(root, engine, [check for check in made if check.engine == engine], report)
    ET.indent(root)
    write_bytes(path, ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")


def _add_suite(root: ET.Element, engine: str, made: list[Check], report: ParityReport) -> None:
    suite = ET.SubElement(root, "testsuite", {"name": _clean(engine), **_counts(made)})
    properties = ET.SubElement(suite, "properties")
    for kind, values in (("version", report.versions), ("sha256", report.hashes)):
        for name, value in values.items():
            ET.SubElement(properties, "property", name=_clean(f"{kind}.{name}"), value=_clean(value))
    for check in made:
        case = ET.SubElement(suite, "testcase", classname=_clean(engine), name=_clean(check.name))
        if check.passed:
            ET.SubElement(case, "system-out").text = _clean(check.detail)
        else:
            detail = _clean(check.detail)
            ET.SubElement(case, "failure", type="CheckFailed", message=detail).text = detail


def _counts(made: list[Check]) -> dict[str, str]:
    failures = sum(not check.passed for check in made)
    return {"tests": str(len(made)), "failures": str(failures), "errors": "0"}


def _clean(text: str) -> str:
    """Write the characters that XML 1.0 cannot hold as Python writes them: ``\\x1b``."""
    return _NOT_XML.sub(lambda match: match[0].encode("unicode_escape").decode(), text)

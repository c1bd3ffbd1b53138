"""Read a run's records, lay them out as sections, render the page."""

import re
import shlex
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from pipeline.files import write_bytes
from pipeline.report.blocks import Page
from pipeline.report.records import Records, read
from pipeline.report.sections import (
    contract,
    data,
    distances,
    drift,
    evaluation,
    flips,
    head,
    mistakes,
    origin,
    parity,
    robustness,
    training,
    variants,
)
from pipeline.run_directory import RunDirectory

SECTIONS = (
    data.section,
    training.section,
    evaluation.held_out,
    evaluation.by_class,
    evaluation.calibration,
    mistakes.section,
    robustness.section,
    contract.section,
    parity.section,
    distances.section,
    flips.section,
    variants.section,
    drift.section,
    origin.files_and_versions,
    origin.reproduction,
)


def write_report(run: RunDirectory, data: Path | None = None) -> Path:
    """Write ``report.html`` from what the stages have left in a run, and return its path.

    The same files give the same bytes.

    Args:
        run: a trained run; a part whose stage has not run yet is named, with its command.
        data: the data set, where it is no longer in the place it was trained from.

    Raises:
        RunError: a file of the run is damaged.
        DataError: `data` was given and is not a prepared data set.
    """
    path = run / "report.html"
    page = render(lay_out(read(run, data)))
    write_bytes(path, page.encode("utf-8", "replace"))  # JSON can hold half a surrogate pair, UTF-8 cannot
    return path


def lay_out(records: Records) -> Page:
    """Choose what the page says."""
    return Page(shlex.quote(str(records.run.path)), head.head(records), tuple(section(records) for section in SECTIONS))


def render(page: Page) -> str:
    """Return the page as HTML; every text in it is escaped."""
    environment = Environment(
        loader=PackageLoader("pipeline.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["with_code"] = _with_code
    return environment.get_template("page.html").render(page=page)


def _with_code(text: str) -> Markup:
    """Escape a text, and set what stands between backquotes as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped before

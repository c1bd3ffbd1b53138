"""JSON lines to text records."""

import codecs
import json
from typing import IO, Any

from pipeline.readers.rows import BadRow, Record, Records, require_columns


def read_json_lines(file: IO[bytes], text: str = "text", label: str | None = "label") -> Records:
    """Yield the records of a file with one JSON object on each line; blank lines are no rows.

    Raises:
        UsageError: the first object lacks a column; in later rows a missing key is as good as null.
    """
    is_first = True
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        item = _parse(line.removeprefix(codecs.BOM_UTF8) if number == 1 else line, number)
        if isinstance(item, BadRow):
            yield item
            continue
        if is_first:
            require_columns(item, text, label)
            is_first = False
        yield Record(number, item.get(text), None if label is None else item.get(label))


def _parse(line: bytes, number: int) -> dict[str, Any] | BadRow:
    try:
        item = json.loads(line.decode(errors="surrogateescape"))
    except (ValueError, RecursionError):
        return BadRow(number, "malformed: not JSON")
    return item if isinstance(item, dict) else BadRow(number, "malformed: not a JSON object")

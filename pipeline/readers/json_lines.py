"""JSON lines to text rows."""

import json
from collections.abc import Iterator
from typing import IO

from pipeline.readers.rows import BadRow, Row, require_columns, text_row


def read_json_lines(file: IO[bytes], text: str = "text", label: str = "label") -> Iterator[Row]:
    """Yield the rows of a file with one JSON object on each line; blank lines are no rows.

    Raises:
        UsageError: the first object lacks a column; in later rows a missing key is a bad row.
    """
    is_first = True
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        item = _parse(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line, number)
        if isinstance(item, BadRow):
            yield item
            continue
        if is_first:
            require_columns(item, (text, label))
            is_first = False
        yield text_row(number, item.get(text), item.get(label))


def _parse(line: bytes, number: int) -> dict[str, object] | BadRow:
    try:
        item = json.loads(line.decode())
    except UnicodeDecodeError:
        return BadRow(number, "invalid UTF-8")
    except (ValueError, RecursionError):
        return BadRow(number, "malformed: not JSON")
    return item if isinstance(item, dict) else BadRow(number, "malformed: not a JSON object")

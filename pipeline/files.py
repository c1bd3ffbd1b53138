"""Files that are either wholly there or not there at all, and the hashes that name their bytes."""

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError, RunError


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old bytes or the new ones and never a part.

    Raises:
        PipelineError: the disk is full or the folder cannot be written; the old file is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):  # where nothing can be written, nothing can be removed either
            temporary.unlink()
        raise PipelineError(
            f"{path}: cannot be written: {error.strerror}. The earlier file, if any, is intact."
        ) from error


def remove_leftovers(folder: Path) -> None:
    """Remove the parts that killed writers left in a folder that nobody else writes to."""
    for path in folder.glob(".*.tmp"):
        path.unlink()


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text as `write_bytes` does."""
    write_bytes(path, content.encode())


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON as `write_bytes` does; NaN and infinity become null, as JSON has no word for them."""
    write_text(path, json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file that an earlier stage wrote.

    Raises:
        RunError: the file is missing, or is not JSON (cut off, edited).
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise RunError(f"{path}: no such file.") from error
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: not readable as JSON ({error}). Run the stage that writes it again.") from error


def read_record(path: Path, wanted: dict[str, type | tuple[type, ...]]) -> dict[str, Any]:
    """Read a JSON object that holds at least the wanted keys, each of its type.

    Raises:
        RunError: the file is missing, is not JSON, or is not such an object.
    """
    content = read_json(path)
    for key, kind in wanted.items():
        if not isinstance(content, dict) or key not in content or not isinstance(content[key], kind):
            raise RunError(f"{path}: cut off or edited: no proper {key!r}. Run the stage that writes it again.")
    record: dict[str, Any] = content
    return record


def sync(path: Path) -> None:
    """Make a file's bytes, or the renames inside a directory, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value

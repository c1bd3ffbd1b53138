"""Which folder holds the data: the user's, or a named set's, fetched when it is not there yet."""

from pathlib import Path

from pipeline.cache import cache_folder, locked
from pipeline.data.catalog import SETS
from pipeline.data.fetch import fetch
from pipeline.errors import UsageError


def resolve(data: Path | None, source: str) -> Path:
    """Return the prepared data set to use, fetching it first if it is a named set that is not there.

    Args:
        data: the user's choice; it wins.
        source: the recipe's ``data.source``: a folder or the name of a set.

    Raises:
        UsageError: neither says.
        DataError: the set cannot be fetched.
    """
    if data is not None:
        return data
    if not source:
        raise UsageError("no data: give --data DIR, or data.source in the recipe.")
    if source not in SETS:
        return Path(source)
    folder = Path("data") / source
    if folder.exists():
        return folder
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    with locked(source, cache):  # of the processes that torchrun starts, one fetches
        return folder if folder.exists() else fetch(source, folder)

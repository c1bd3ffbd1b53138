"""Pre-trained word vectors from a local file: word2vec, GloVe and fastText, as text, binary or ``.npz``.

::

    text     one word and its numbers a line; word2vec and fastText put a line "count size" before them
    binary   word2vec: a line "count size", then each word, a space, and `size` little-endian float32
    .npz     two arrays: `words`, (V,) strings, and `vectors`, (V, E) numbers

The file is read once from front to back and only the rows of a vocabulary are kept, so it may be larger than memory.
"""

from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile, ZipFile

import numpy as np

from pipeline.archives import refuse_bombs
from pipeline.errors import DataError, UsageError

_FASTTEXT_MODEL = (793712314).to_bytes(4, "little")
_LONGEST_WORD = 10_000  # bytes; a binary file that is cut off or is none would be searched to its end
_SHOWN = 20

Row = tuple[str, np.ndarray]


@dataclass(frozen=True)
class Vectors:
    """The vectors of a vocabulary.

    Attributes:
        path: the file.
        matrix: (V, E) float32, a row for each token; zeros where the file knows none.
        found: (V,) bool.
    """

    path: Path
    matrix: np.ndarray
    found: np.ndarray

    @property
    def size(self) -> int:
        """E."""
        return int(self.matrix.shape[1])


def read_vectors(path: Path, vocabulary: Sequence[str], *, is_lowercase: bool) -> Vectors:
    """Read the vectors of a vocabulary's tokens; of a word that stands twice, the first counts.

    Args:
        path: the file.
        vocabulary: the tokens.
        is_lowercase: the tokens are folded: of words that differ in case alone, one written as the token goes first.

    Raises:
        UsageError: there is no such file.
        DataError: it is damaged, of another kind, or knows no token.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file of word vectors. Give model.vectors another path.")
    places = {token: place for place, token in enumerate(vocabulary)}
    found, is_exact = np.zeros(len(vocabulary), bool), np.zeros(len(vocabulary), bool)
    matrix = None
    for word, vector in _rows(path):
        if matrix is None:
            matrix = np.zeros((len(vocabulary), len(vector)), np.float32)
        place = places.get(word)
        if place is not None and not is_exact[place]:
            is_exact[place] = True
        elif place is None and is_lowercase:
            place = places.get(word.lower())
            if place is None or found[place]:
                continue
        else:
            continue
        if not np.isfinite(vector).all():
            raise DataError(f"{path}: the vector of {word!r} holds numbers that are not finite. Mend or leave it out.")
        matrix[place], found[place] = vector, True
    if matrix is None or not found.any():
        raise DataError(f"{path}: knows none of the vocabulary's {len(vocabulary)} tokens. Is it of this language?")
    return Vectors(path, matrix, found)


def out_of_vocabulary(vectors: Vectors, vocabulary: Sequence[str]) -> dict[str, Any]:
    """Report which tokens have no vector; the vocabulary comes in falling frequency."""
    missing = np.flatnonzero(~vectors.found)
    return {
        "file": str(vectors.path),
        "size": vectors.size,
        "vocabulary": len(vocabulary),
        "found": int(vectors.found.sum()),
        "coverage": float(vectors.found.mean()),
        "missing": [vocabulary[place] for place in missing[:_SHOWN]],
    }


def _rows(path: Path) -> Iterator[Row]:
    if path.suffix == ".npz":
        yield from _npz_rows(path)
        return
    with path.open("rb") as file:
        beginning = len(BOM_UTF8) if file.read(len(BOM_UTF8)) == BOM_UTF8 else 0
        file.seek(beginning)
        first = file.readline(_LONGEST_WORD)
        if first[:4] == _FASTTEXT_MODEL:
            raise DataError(f"{path}: a fastText model, subwords and all. Save its vectors as text (.vec).")
        header = first.split()
        if len(header) != 2 or not all(part.isdigit() for part in header):
            file.seek(beginning)
            yield from _text_rows(path, file, None, 1)
            return
        count, size = map(int, header)
        start = file.tell()
        is_text = _is_text(file.readline(_LONGEST_WORD * 100), size)
        file.seek(start)
        yield from _text_rows(path, file, size, 2) if is_text else _binary_rows(path, file, count, size)


def _is_text(line: bytes, size: int) -> bool:
    try:
        return len([float(part) for part in line.split()[-size:]]) == size
    except ValueError:
        return False


def _text_rows(path: Path, file: BinaryIO, size: int | None, number: int) -> Iterator[Row]:
    for place, line in enumerate(file, number):
        parts = line.rstrip().split(b" ")
        if size is None:
            size = len(parts) - 1
        try:
            if len(parts) <= size or not size:
                raise ValueError(f"{len(parts) - 1} numbers")  # noqa: TRY301 - one message for all that can be wrong
            word, vector = b" ".join(parts[:-size]).decode("utf-8", "replace"), np.array(parts[-size:], np.float32)
        except ValueError as error:
            raise DataError(
                f"{path}: line {place}: wanted a word and {size} numbers, got {str(error)[:90]}."
            ) from error
        yield word, vector


def _binary_rows(path: Path, file: BinaryIO, count: int, size: int) -> Iterator[Row]:
    for number in range(1, count + 1):
        word = bytearray()
        while (byte := file.read(1)) not in {b" ", b""} and len(word) < _LONGEST_WORD:
            word += byte
        content = file.read(4 * size)
        if byte != b" " or len(content) != 4 * size:
            raise DataError(f"{path}: cut off in word {number} of {count}, or not word2vec's. Fetch it again.")
        yield word.lstrip(b"\n").decode("utf-8", "replace"), np.frombuffer(content, "<f4")


def _npz_rows(path: Path) -> Iterator[Row]:
    try:
        with ZipFile(path) as archive:
            refuse_bombs(archive)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            words, vectors = arrays["words"], arrays["vectors"]
        if (
            words.dtype.kind != "U"
            or vectors.dtype.kind not in "fiu"
            or vectors.ndim != 2
            or len(words) != len(vectors)
        ):
            raise ValueError(f"words {words.dtype} {words.shape}, vectors {vectors.dtype} {vectors.shape}")  # noqa: TRY301
    except (OSError, ValueError, KeyError, EOFError, MemoryError, BadZipFile) as error:
        raise DataError(
            f"{path}: wanted two arrays, words (V,) of strings and vectors (V, E) of numbers, got: {error}."
        ) from error
    yield from zip(words.tolist(), vectors.astype(np.float32), strict=True)

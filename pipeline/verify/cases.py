"""The inputs that verification asks about: a grid of shapes, every vocabulary entry, hostile bytes, real rows."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.dataset import HELD_OUT, Dataset
from pipeline.model.inputs import FrameStandardisation
from pipeline.reference import Reference
from pipeline.verify.engines import Row

ODD_LENGTH = 17
LONG_TEXT_WORDS = 100_000


@dataclass(frozen=True)
class Shape:
    """A place in the grid: how many rows, the greatest length there can be, and how the lengths are arranged."""

    batch: int
    length: int
    arrangement: str


@dataclass(frozen=True)
class Batch:
    """Rows that are asked together, what they are called in the report, and their place in the grid, if any."""

    name: str
    rows: list[Row]
    shape: Shape | None = None


HOSTILE_TEXTS: tuple[tuple[str, bytes], ...] = (
    ("empty", b""),
    ("white space", b" \t\r\n"),
    ("Unicode white space", "\u00a0\u2003\u3000".encode()),
    ("NUL alone", b"\0"),
    ("NUL inside", b"good\0bad"),
    ("NUL before bytes that are not text", b"good\0\xff"),
    ("a byte that is not UTF-8", b"\xff"),
    ("a cut-off sequence", b"good \xe6\x88"),
    ("an overlong sequence", b"\xc0\xaf"),
    ("a surrogate", b"\xed\xa0\x80"),
    ("beyond U+10FFFF", b"\xf4\x90\x80\x80"),
    ("byte order mark", b"\xef\xbb\xbfgood"),
    ("control characters", b"good\x01\x7f\x1b[31mbad"),
    ("combining marks", "e\u0301 n\u0303 \u0915\u094d\u0937".encode()),
    ("emoji with joiners", "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f44d\U0001f3fd".encode()),
    ("right to left", "\u202e\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd".encode()),
    ("Turkish dotted and dotless i", "\u0130\u0131 I i".encode()),
    ("final sigma", "\u039f\u0394\u039f\u03a3 \u03c2".encode()),
    ("Han, extension B too", "我\U00020000\U00020001 ok".encode()),
    ("unknown words alone", b"qzxv wkjq zzxq"),
    ("one endless word", b"x" * 50_000),
    (f"{LONG_TEXT_WORDS:,} words", b"good " * LONG_TEXT_WORDS),
)

DRAWN_TEXTS = 512
_SCRIPTS = (  # ranges of code points that drawn texts are made of
    (0x20, 0x7E),  # ASCII
    (0x09, 0x0D),  # white space
    (0xA0, 0x17F),  # Latin letters with marks, and the no-break space
    (0x300, 0x36F),  # combining marks
    (0x370, 0x3FF),  # Greek
    (0x400, 0x52F),  # Cyrillic
    (0x590, 0x6FF),  # Hebrew, Arabic
    (0x900, 0x97F),  # Devanagari
    (0x2000, 0x206F),  # spaces, joiners, directions
    (0x3000, 0x30FF),  # ideographic space, Kana
    (0x4E00, 0x9FFF),  # Han
    (0xAC00, 0xD7A3),  # Hangul
    (0x1F300, 0x1FAFF),  # pictographs
    (0x20000, 0x2A6DF),  # Han, extension B
    (0x01, 0x10FFFF),  # anything
)

HOSTILE_NUMBERS = (np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45)


def grid(reference: Reference, dataset: Dataset, *, is_small: bool = False) -> Iterator[Batch]:
    """Yield every batch size × length × arrangement, the largest of each included unless it is to be small.

    The arrangements: all rows of that length, lengths drawn up to it, one long row among short ones.
    """
    generator = np.random.default_rng(0)
    longest = _longest(reference, dataset)
    largest = reference.recipe.publish.max_batch_size
    if is_small:
        largest, longest = min(largest, 7), min(longest, ODD_LENGTH)
    for rows in sorted({size for size in (1, 2, 7, largest) if size <= largest}):
        for length in sorted({1, 2, min(ODD_LENGTH, longest), longest}):
            arrangements = {
                "uniform": np.full(rows, length),
                "ragged": generator.integers(1, length + 1, rows),
                "one long": np.where(np.arange(rows) == rows // 2, length, 1),
            }
            for name, lengths in arrangements.items():
                drawn = [_draw(reference, int(size), generator) for size in lengths]
                yield Batch(f"batch {rows} × length {length}, {name}", drawn, Shape(rows, length, name))


def vocabulary(reference: Reference, size: int = 256) -> Iterator[Batch]:
    """Yield every token of the vocabulary as a text of its own, so that no entry and no vector escapes."""
    for start in range(0, len(reference.vocabulary), size):
        yield Batch(f"tokens {start}…", list(reference.vocabulary[start : start + size]))


def hostile_texts() -> Iterator[Batch]:
    """Yield each hostile text alone, named."""
    for name, raw in HOSTILE_TEXTS:
        yield Batch(name, [raw])


def drawn_texts(size: int = 64) -> Iterator[Batch]:
    """Yield texts of drawn characters of one to three scripts, which no list of hostile texts would hold."""
    generator = np.random.default_rng(0)
    for start in range(0, DRAWN_TEXTS, size):
        yield Batch(f"drawn {start}…", [drawn_text(generator) for _ in range(size)])


def drawn_text(generator: np.random.Generator) -> str:
    """Draw fewer than 60 characters of one to three scripts; never a NUL or a surrogate."""
    scripts = [_SCRIPTS[number] for number in generator.integers(0, len(_SCRIPTS), generator.integers(1, 4))]
    places = generator.integers(0, len(scripts), generator.integers(1, 60))
    points = (int(generator.integers(low, high + 1)) for low, high in (scripts[place] for place in places))
    return "".join(chr(point) for point in points if not 0xD800 <= point <= 0xDFFF)  # a surrogate is no character


def hostile_frames(feature_size: int) -> Iterator[Batch]:
    """Yield three frames whose middle one holds a hostile number, beside the same frames without it."""
    for number in HOSTILE_NUMBERS:
        frames = np.zeros((3, feature_size), np.float32)
        frames[1, 0] = number
        yield Batch(f"{number}", [frames, np.zeros((3, feature_size), np.float32)])


def held_out(dataset: Dataset, interface: str, size: int) -> Iterator[Batch]:
    """Yield every row of the validation and test splits, in batches of similar length."""
    for name in HELD_OUT:
        split = dataset.split(name)
        rows: list[Row] = list(split.texts()) if interface == "text" else split.frames()
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        for start in range(0, len(order), size):
            yield Batch(f"{name} rows", [rows[index] for index in order[start : start + size]])


def sample(dataset: Dataset, interface: str, count: int) -> list[Row]:
    """Return some validation rows, drawn with a fixed seed."""
    split = dataset.split("validation")
    indices = np.sort(np.random.default_rng(0).permutation(len(split))[:count])
    return list(split.texts(indices)) if interface == "text" else split.frames(indices)


def sample_batch(reference: Reference, dataset: Dataset, count: int) -> Batch:
    """Return some validation rows and the longest row there can be, together."""
    rows = sample(dataset, reference.signature.interface, count)
    return Batch(f"{len(rows)} validation rows and the longest", [*rows, longest_row(reference, dataset)])


def longest_row(reference: Reference, dataset: Dataset) -> Row:
    """Return one drawn row of the greatest length."""
    return _draw(reference, _longest(reference, dataset), np.random.default_rng(1))


def _longest(reference: Reference, dataset: Dataset) -> int:
    """Return ``max_tokens``, or the longest feature sequence of the validation split."""
    if reference.signature.interface == "text":
        return reference.recipe.tokenizer.max_tokens
    return max(len(frames) for frames in dataset.split("validation").frames())


def _draw(reference: Reference, length: int, generator: np.random.Generator) -> Row:
    """Draw a row of about ``length`` tokens, or exactly that many frames as widely spread as the training ones."""
    standard = reference.model.embedding
    if isinstance(standard, FrameStandardisation):
        noise = generator.standard_normal((length, len(standard.mean)))
        return (noise / standard.scale.numpy() + standard.mean.numpy()).astype(np.float32)
    separator = " " if reference.recipe.tokenizer.level == "word" else ""
    tokens = generator.choice(np.array(reference.vocabulary, dtype=object), length)
    return separator.join(tokens)

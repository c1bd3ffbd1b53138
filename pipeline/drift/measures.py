"""What the training and the held-out data lead one to expect, what was found, and whether the two are apart."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset import HELD_OUT, Dataset, Split
from pipeline.drift.answering import Model
from pipeline.drift.distance import Ratio, Scale, kolmogorov_smirnov, share_noise, stability_index, stability_noise
from pipeline.drift.tally import CONFIDENCE, LABEL, SIZE, TOKENS, Block, Tally
from pipeline.encoding import encode
from pipeline.gate import rows_of
from pipeline.signature import Interface
from pipeline.tokenizer import Tokenizer

LEAST_ROWS = 100
"""Of fewer, chance alone gives a stability index over ten bins that is beyond the default limit."""

_HELD_OUT_ROWS = 10_000  # of each held-out split, at most: they are asked each time


@dataclass(frozen=True)
class Limits:
    """How far a measure may go.

    Attributes:
        psi: the population stability index of length, confidence and label.
        unknown: the increase of the share of unknown words.
        invalid: the share of invalid rows.
    """

    psi: float = 0.2
    unknown: float = 0.05
    invalid: float = 0.01


@dataclass(frozen=True)
class Expectation:
    """The reference of every measure.

    Attributes:
        interface: what the model's rows are.
        classes: the label names.
        scales: the distributions: of `size` and `tokens` in the training split, of `confidence` and `label` in the
            model's answers to the held-out splits.
        means: of the same.
        unknown: tokens that are not in the vocabulary among all of the held-out splits.
    """

    interface: Interface
    classes: tuple[str, ...]
    scales: dict[str, Scale]
    means: dict[str, float]
    unknown: Ratio

    @classmethod
    def of(
        cls, interface: Interface, classes: tuple[str, ...], lengths: dict[str, np.ndarray], answered: Block
    ) -> Self:
        """Take the training split's lengths, and the held-out rows as they were answered.

        Shapes:
            lengths: (N,) int64 each, of `size` and, for texts, of `tokens`.
        """
        columns = {**lengths, CONFIDENCE: answered.columns[CONFIDENCE]}
        scales = {name: Scale.of(values) for name, values in columns.items()}
        scales[LABEL] = Scale.of_classes(answered.columns[LABEL], len(classes))
        means = {name: float(values.mean(dtype=np.float64)) for name, values in columns.items()}
        return cls(interface, classes, scales, means, Ratio.of(answered.unknown, answered.columns[TOKENS]))


@dataclass(frozen=True)
class Measure:
    """One comparison.

    Attributes:
        name: `length`, `unknown`, `confidence`, `label` or `invalid`.
        unit: what `expected` and `found` are: a mean, or a share.
        reference: what the requests are compared with.
        reference_rows: how many it has.
        rows: requests that were compared.
        expected: of the reference; None for labels.
        found: of the requests; None for labels.
        value: the population stability index, or the increase of the share.
        noise: what the value exceeds in 1 % of the cases without any drift, with as many rows.
        limit: how far the value may go where it is not noise.
        ks: the Kolmogorov–Smirnov statistic and its p-value; None where the values have no order.
        bins: name of each bin, and the shares of the reference and of the requests that lie in it.
    """

    name: str
    unit: str
    reference: str
    reference_rows: int
    rows: int
    expected: float | None
    found: float | None
    value: float
    noise: float
    limit: float
    ks: tuple[float, float] | None = None
    bins: tuple[tuple[str, float, float], ...] = ()

    @property
    def allowed(self) -> float:
        """The largest value that is no drift."""
        return max(self.limit, self.noise)

    @property
    def is_drift(self) -> bool:
        """Whether the value is beyond the limit, and beyond what chance explains; one that is not a number is."""
        return not self.value <= self.allowed

    def record(self) -> dict[str, Any]:
        """Return the measure as JSON has it."""
        return asdict(self) | {"allowed": self.allowed, "is_drift": self.is_drift}


@dataclass(frozen=True)
class Unmeasured:
    """A measure that could not be taken, and why."""

    name: str
    reason: str


def expect(dataset: Dataset, model: Model, tokenizer: Tokenizer | None) -> Expectation:
    """Measure the training split's lengths, and ask the model the rows of the held-out splits.

    Raises:
        DataError: a split is missing or damaged.
    """
    train = dataset.split("train")
    lengths = {SIZE: _sizes(train.inputs)}
    if tokenizer:
        lengths[TOKENS] = encode(train, tokenizer).lengths
    splits = [_drawn(split) for name in HELD_OUT if len(split := dataset.split(name))]
    answered = [request for split in splits for request in model.requests(rows_of(split, model.interface))]
    return Expectation.of(model.interface, dataset.classes, lengths, Block.of(answered, tokenizer))


def judge(expected: Expectation, tally: Tally, limits: Limits) -> Iterator[Measure | Unmeasured]:
    """Compare what was counted with what was expected."""
    is_text = expected.interface == "text"
    too_few = f"{tally.valid:,} valid rows; wanted {LEAST_ROWS}" if tally.valid < LEAST_ROWS else ""
    is_whole = is_text and tally.unknown.rows == tally.valid
    unit = "tokens" if is_whole else "bytes" if is_text else "frames"
    distributions = (
        ("length", TOKENS if is_whole else SIZE, f"mean {unit}", "training split"),
        ("confidence", CONFIDENCE, "mean probability", "held-out answers"),
        ("label", LABEL, "", "held-out answers"),
    )
    for name, column, words, reference in distributions:
        if too_few:
            yield Unmeasured(name, too_few)
        else:
            yield _distribution(name, column, words, reference, expected, tally, limits)
        if name == "length" and is_text:
            yield _unknown(expected, tally, limits)
    share = tally.invalid / tally.rows
    yield Measure("invalid", "share of rows", "none", 0, tally.rows, 0.0, share, share, 0.0, limits.invalid)


def _distribution(
    name: str, column: str, unit: str, reference: str, expected: Expectation, tally: Tally, limits: Limits
) -> Measure:
    scale, counts = expected.scales[column], tally.counts[column]
    known, found = scale.binned(scale.counts), scale.binned(counts)
    names = expected.classes if column == LABEL else scale.names()
    return Measure(
        name=name,
        unit=unit,
        reference=reference,
        reference_rows=scale.rows,
        rows=tally.valid,
        expected=None if column == LABEL else expected.means[column],
        found=None if column == LABEL else tally.sums[column] / tally.valid,
        value=float(stability_index(known, found)),
        noise=stability_noise(known, tally.valid),
        limit=limits.psi,
        ks=None if column == LABEL else kolmogorov_smirnov(scale.counts, counts),
        bins=tuple(zip(names, (known / known.sum()).tolist(), (found / found.sum()).tolist(), strict=True)),
    )


def _unknown(expected: Expectation, tally: Tally, limits: Limits) -> Measure | Unmeasured:
    known, found = expected.unknown, tally.unknown
    if found.rows < LEAST_ROWS:
        kept = f"the log holds {found.rows:,} texts of {tally.valid:,}"
        return Unmeasured("unknown", f"{kept}; wanted {LEAST_ROWS}: unknown words cannot be seen in hashes")
    return Measure(
        name="unknown",
        unit="share of tokens",
        reference="held-out texts",
        reference_rows=known.rows,
        rows=found.rows,
        expected=known.share,
        found=found.share,
        value=found.share - known.share,
        noise=share_noise(known, found),
        limit=limits.unknown,
    )


def _drawn(split: Split) -> Split:
    chosen = np.random.default_rng(0).permutation(len(split))[:_HELD_OUT_ROWS]
    return split.take(np.sort(chosen))


def _sizes(inputs: pa.ChunkedArray) -> np.ndarray:
    """Return the bytes of texts, or the frames of sequences, (N,)."""
    is_text = pa.types.is_string(inputs.type) or pa.types.is_large_string(inputs.type)
    return np.asarray((pc.binary_length if is_text else pc.list_value_length)(inputs).to_numpy())

"""The evaluate stage: how good a run is on splits it did not learn from."""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.dataset import HELD_OUT, Dataset, Split
from pipeline.encoding import encode
from pipeline.files import write_json
from pipeline.metrics import accuracy_by_length, confident_wrong, measure
from pipeline.reference import Reference
from pipeline.run_directory import RunDirectory
from pipeline.sequences import Sequences

_TEXT_SHOWN = 300


def evaluate(run: RunDirectory, data: Path | None = None) -> dict[str, Any]:
    """Measure a run on the validation and the test split, and write ``evaluation.json``.

    Args:
        run: a trained run.
        data: the data set, where it is no longer in the place it was trained from.

    Returns:
        For each split what `pipeline.metrics.measure` gives, accuracy by length, and the wrong rows it is surest of.

    Raises:
        RunError: the run is not whole.
        DataError: the data set is missing, damaged, or another one.
    """
    reference = Reference.load(run)
    dataset = reference.dataset(data)
    evaluation: dict[str, Any] = {"format": 1, "weights_sha256": run.info["hashes"]["weights.safetensors"]}
    for name in HELD_OUT:
        split = dataset.split(name)
        sequences = encode(split, reference.tokenizer)
        probabilities = reference.probabilities(sequences)
        evaluation[name] = {
            **measure(probabilities, split.labels, dataset.classes),
            "lengths": accuracy_by_length(probabilities.argmax(1) == split.labels, sequences.lengths),
            "confident_wrong": _confident_wrong(probabilities, split, sequences, dataset),
        }
    write_json(run / "evaluation.json", evaluation)
    return evaluation


def _confident_wrong(
    probabilities: np.ndarray, split: Split, sequences: Sequences, dataset: Dataset
) -> list[dict[str, Any]]:
    rows = confident_wrong(probabilities, split.labels)
    texts = split.texts(rows) if dataset.interface == "text" else [None] * len(rows)
    return [
        {
            "row": int(row),
            "label": dataset.classes[split.labels[row]],
            "predicted": dataset.classes[probabilities[row].argmax()],
            "probability": float(probabilities[row].max()),
            "length": int(sequences.lengths[row]),
            "text": None if text is None else text[:_TEXT_SHOWN],
        }
        for row, text in zip(rows, texts, strict=True)
    ]

"""From a run to how its accuracy holds under attack."""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.attack.embedding import epsilon_curve
from pipeline.attack.typos import Victim, add_typo
from pipeline.dataset import Split
from pipeline.encoding import encode
from pipeline.errors import UsageError
from pipeline.files import write_json
from pipeline.reference import Reference
from pipeline.run_directory import RunDirectory

TYPOS = 2
_EXAMPLES = 20


def attack(run: RunDirectory, *, rows: int = 500, seed: int = 0, data: Path | None = None) -> dict[str, Any]:
    """Attack rows of the test split and write ``attack.json``.

    Texts suffer one typo and a second one, each the worst a greedy search finds, which knows the true label; the search
    stops at a wrong answer. Texts and frames alike suffer a move of their embedded steps along the gradient.

    Args:
        run: a trained run.
        rows: how many are attacked, at most.
        seed: of the draw of the rows.
        data: the data set, where it is no longer in the place it was trained from.

    Returns:
        ``clean_accuracy``; for each number of ``typos`` the accuracy; for each ``epsilon`` the accuracy; ``examples``.

    Raises:
        RunError: the run is not whole.
        DataError: the data set is missing, damaged, or another one.
        UsageError: no row is asked for.
    """
    if rows < 1:
        raise UsageError(f"--rows {rows}: wanted at least 1.")
    reference = Reference.load(run)
    split = reference.dataset(data).split("test")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(split))[:rows])
    split = split.take(chosen)
    sequences = encode(split, reference.tokenizer)
    predicted = reference.probabilities(sequences).argmax(1)
    record: dict[str, Any] = {
        "format": 1,
        "weights_sha256": run.info["hashes"]["weights.safetensors"],
        "rows": len(split),
        "seed": seed,
        "clean_accuracy": float((predicted == split.labels).mean()),
        "typos": [],
        "examples": [],
        "epsilon": epsilon_curve(reference.model, sequences, split.labels),
    }
    if reference.tokenizer is not None:
        record |= _misspell(split, predicted, reference)
    write_json(run / "attack.json", record)
    return record


def _misspell(split: Split, predicted: np.ndarray, reference: Reference) -> dict[str, Any]:
    """Attack with one typo after the other the rows whose answers are still right."""
    assert reference.tokenizer is not None  # noqa: S101 - the caller's condition
    texts, classes = split.texts(), reference.signature.classes
    standing = [Victim(int(row), texts[row]) for row in np.flatnonzero(predicted == split.labels)]
    accuracies, examples = [], []
    for number in range(1, TYPOS + 1):
        standing, given = add_typo(standing, split.labels, reference, reference.tokenizer)
        is_right = given == split.labels[[victim.row for victim in standing]]
        accuracies.append({"typos": number, "accuracy": float(is_right.sum() / len(split))})
        examples += [
            {
                "text": texts[victim.row],
                "attacked": victim.text,
                "typos": number,
                "label": classes[split.labels[victim.row]],
                "predicted": classes[label],
            }
            for victim, label, right in zip(standing, given, is_right, strict=True)
            if not right
        ]
        standing = [victim for victim, right in zip(standing, is_right, strict=True) if right]
    return {"typos": accuracies, "examples": examples[:_EXAMPLES]}

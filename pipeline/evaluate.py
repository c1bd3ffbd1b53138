"""The evaluate stage: how good a run is on splits it did not learn from."""

from pathlib import Path
from typing import Any

from pipeline.dataset import HELD_OUT
from pipeline.encoding import encode
from pipeline.files import write_json
from pipeline.metrics import measure
from pipeline.reference import Reference
from pipeline.run_directory import RunDirectory


def evaluate(run: RunDirectory, data: Path | None = None) -> dict[str, Any]:
    """Measure a run on the validation and the test split, and write ``evaluation.json``.

    Args:
        run: a trained run.
        data: the data set, where it is no longer in the place it was trained from.

    Returns:
        For each split what `pipeline.metrics.measure` gives.

    Raises:
        RunError: the run is not whole.
        DataError: the data set is missing, damaged, or another one.
    """
    reference = Reference.load(run)
    dataset = reference.dataset(data)
    evaluation: dict[str, Any] = {"format": 1, "weights_sha256": run.info["hashes"]["weights.safetensors"]}
    for name in HELD_OUT:
        split = dataset.split(name)
        probabilities = reference.probabilities(encode(split, reference.tokenizer))
        evaluation[name] = measure(probabilities, split.labels, dataset.classes)
    write_json(run / "evaluation.json", evaluation)
    return evaluation

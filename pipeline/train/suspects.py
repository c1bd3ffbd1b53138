"""Rows whose label is most likely wrong: those that a model which never learned them doubts most.

Source: confident learning's out-of-fold self-confidence, Northcutt et al. 2021.
"""

import copy
import dataclasses
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline.dataset import Dataset
from pipeline.errors import DataError, UsageError
from pipeline.model.scoring import logits_of
from pipeline.recipe import Recipe
from pipeline.train.batches import Examples
from pipeline.train.loop import Training, train_epochs
from pipeline.train.prepare import Prepared, prepare_and_pretrain
from pipeline.train.state import State

FoldDone = Callable[[int, float], None]


@dataclass(frozen=True)
class Suspect:
    """A row of the training split.

    Attributes:
        row: its place in ``train.parquet``, from 0.
        label: as it stands there.
        predicted: what the others' model says.
        label_probability: of the label, by the others' model; the least comes first.
        predicted_probability: of what it says.
        text: of texts; None for features.
    """

    row: int
    label: str
    predicted: str
    label_probability: float
    predicted_probability: float
    text: str | None


def find_suspects(
    data: Path, recipe: Recipe, *, folds: int = 5, most: int = 100, fold_done: FoldDone = lambda *_: None
) -> list[Suspect]:
    """Return the rows of the training split whose label is doubted most, the most doubtful first.

    The split is dealt into folds; a model trained on all others says what it thinks of each. The validation split ends
    each training as it always does.

    Args:
        data: a prepared data set.
        recipe: the model and how it is trained.
        folds: how many.
        most: rows returned, at most; only rows of which something else is predicted.
        fold_done: told each fold's number and how accurate its model is on it.

    Raises:
        DataError: the data set is damaged, or has fewer rows than folds.
        UsageError: fewer than two folds.
    """
    if folds < 2:
        raise UsageError(f"--folds {folds}: wanted at least 2.")
    dataset = Dataset(data)
    prepared = prepare_and_pretrain(dataset, recipe)
    labels = prepared.training.labels
    if len(labels) < folds:
        raise DataError(f"{data}: {len(labels)} training rows, and {folds} folds. Ask for fewer folds.")
    fold_of = np.random.default_rng(recipe.train.seed).permutation(len(labels)) % folds
    probabilities = np.empty((len(labels), len(dataset.classes)), np.float32)
    for fold in range(folds):
        rows = np.flatnonzero(fold_of == fold)
        probabilities[rows] = _judge(prepared, recipe, rows)
        fold_done(fold + 1, float((probabilities[rows].argmax(1) == labels[rows]).mean()))
    return _ranked(probabilities, labels, dataset, most)


def _judge(prepared: Prepared, recipe: Recipe, rows: np.ndarray) -> np.ndarray:
    """Train on all rows but some, and return the probabilities, (N, C), of those."""
    others = np.setdiff1d(np.arange(len(prepared.training.labels)), rows)
    augmentation = prepared.augmentation
    if augmentation.texts is not None:
        augmentation = dataclasses.replace(augmentation, texts=augmentation.texts.take(others))
    sequences = prepared.training.sequences
    examples = Examples(sequences.take(others), prepared.training.labels[others])
    state = State.fresh(copy.deepcopy(prepared.model), recipe.train)
    deque(train_epochs(state, Training(recipe, examples, prepared.validation, augmentation)), maxlen=0)
    return torch.softmax(logits_of(state.model, sequences.take(rows)), 1).numpy()


def _ranked(probabilities: np.ndarray, labels: np.ndarray, dataset: Dataset, most: int) -> list[Suspect]:
    of_label = probabilities[np.arange(len(labels)), labels]
    doubted = np.flatnonzero(probabilities.argmax(1) != labels)
    rows = doubted[np.argsort(of_label[doubted], kind="stable")][:most]
    split, classes = dataset.split("train"), dataset.classes
    texts = split.texts(rows) if dataset.interface == "text" else [None] * len(rows)
    return [
        Suspect(
            int(row),
            classes[labels[row]],
            classes[probabilities[row].argmax()],
            float(of_label[row]),
            float(probabilities[row].max()),
            text,
        )
        for row, text in zip(rows, texts, strict=True)
    ]

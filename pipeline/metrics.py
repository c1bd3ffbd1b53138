"""How well probabilities fit labels."""

from typing import Any

import numpy as np

CALIBRATION_BINS = 15
LENGTH_BINS = 6
WRONG_SHOWN = 20


def cross_entropy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean negative log-likelihood, in nats, of labels (N,) under probabilities (N, C)."""
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(chosen, np.finfo(np.float32).tiny)).mean())


def confusion_matrix(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return (C, C) counts; row: the true class, column: the predicted one."""
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def calibration(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = CALIBRATION_BINS, beside: np.ndarray | None = None
) -> dict[str, Any]:
    """Return the expected calibration error and its bins of equal width over the confidence.

    Args:
        probabilities: (N, C).
        labels: (N,), the true ones.
        bins: how many.
        beside: (N, C) probabilities whose confidence says which bin a row is in; None for these. Two models that
            are compared need the same bins: a row that crosses an edge by a hair moves the error by more than a hair.

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks.
    """
    confidence = probabilities.max(1)
    is_right = probabilities.argmax(1) == labels
    places = np.minimum(((confidence if beside is None else beside.max(1)) * bins).astype(int), bins - 1)
    rows = []
    for place in np.unique(places):
        chosen = places == place
        rows.append(
            {
                "rows": int(chosen.sum()),
                "confidence": float(confidence[chosen].mean()),
                "accuracy": float(is_right[chosen].mean()),
            }
        )
    error = sum(row["rows"] * abs(row["confidence"] - row["accuracy"]) for row in rows) / len(labels)
    return {"expected_calibration_error": float(error), "bins": rows}


def accuracy_by_length(is_right: np.ndarray, lengths: np.ndarray, bins: int = LENGTH_BINS) -> list[dict[str, Any]]:
    """Return accuracy in ranges of length that hold about equally many rows.

    Shapes:
        is_right: (N,) bool, lengths: (N,) int64, in tokens or frames.
    """
    starts = np.unique(np.sort(lengths)[np.arange(bins) * len(lengths) // bins])
    places = np.searchsorted(starts, lengths, side="right") - 1
    rows = []
    for place in np.unique(places):
        chosen = places == place
        rows.append(
            {
                "from": int(lengths[chosen].min()),
                "to": int(lengths[chosen].max()),
                "rows": int(chosen.sum()),
                "accuracy": float(is_right[chosen].mean()),
            }
        )
    return rows


def confident_wrong(probabilities: np.ndarray, labels: np.ndarray, most: int = WRONG_SHOWN) -> np.ndarray:
    """Return the rows with a wrong answer, the surest first; the first places to look for wrong labels."""
    wrong = np.flatnonzero(probabilities.argmax(1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")][:most]


def measure(probabilities: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
    """Return loss, accuracy, macro-F1, per-class figures, confusion matrix and calibration.

    Precision and recall of a class that is never predicted or never present are 0.

    Shapes:
        probabilities: (N, C) float32, labels: (N,) int64, N > 0.
    """
    confusion = confusion_matrix(probabilities.argmax(1), labels, len(classes))
    true_positives, predicted, support = np.diag(confusion), confusion.sum(0), confusion.sum(1)
    precision = true_positives / np.maximum(predicted, 1)
    recall = true_positives / np.maximum(support, 1)
    f1 = 2 * true_positives / np.maximum(predicted + support, 1)
    return {
        "rows": len(labels),
        "loss": cross_entropy(probabilities, labels),
        "accuracy": float(true_positives.sum() / len(labels)),
        "macro_f1": float(f1.mean()),
        "majority_baseline": float(support.max() / len(labels)),
        "classes": [
            {
                "label": name,
                "rows": int(support[c]),
                "precision": float(precision[c]),
                "recall": float(recall[c]),
                "f1": float(f1[c]),
            }
            for c, name in enumerate(classes)
        ],
        "confusion": confusion.tolist(),
        "calibration": calibration(probabilities, labels),
    }

"""What the LSTM is compared with: TF-IDF or statistics with logistic regression, and fastText.

    pip install -r docs/requirements-results.txt

Every choice is made on the validation split, as it is for the LSTM.
"""

import re
import tempfile
from pathlib import Path

import fasttext
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from pipeline.dataset import Dataset, Split

CS = (0.3, 1, 3, 10, 30)
EPOCHS = (5, 15, 40)
RATES = (0.1, 0.5)
_TOKEN = re.compile(r"\w+|[^\w\s]")

Accuracies = tuple[float, float]  # validation, test


def logistic_regression(dataset: Dataset, *, is_chinese: bool) -> Accuracies:
    """TF-IDF of words and pairs (Chinese: characters and pairs), or statistics of the frames; C from `CS`."""
    splits = [dataset.split(name) for name in ("train", "validation", "test")]
    if dataset.interface == "text":
        analyzer = "char" if is_chinese else "word"
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), analyzer=analyzer, sublinear_tf=True)
        inputs = [vectorizer.fit_transform(splits[0].texts()), *(vectorizer.transform(s.texts()) for s in splits[1:])]
    else:
        statistics = [np.stack([_statistics(frames) for frames in split.frames()]) for split in splits]
        scaler = StandardScaler().fit(statistics[0])
        inputs = [scaler.transform(one) for one in statistics]
    labels = [split.labels for split in splits]
    models = [LogisticRegression(C=C, max_iter=1000).fit(inputs[0], labels[0]) for C in CS]
    best = max(models, key=lambda model: model.score(inputs[1], labels[1]))
    return float(best.score(inputs[1], labels[1])), float(best.score(inputs[2], labels[2]))


def fast_text(dataset: Dataset, *, is_chinese: bool) -> Accuracies:
    """Supervised fastText over words, signs and pairs of them; epochs and rate from `EPOCHS` and `RATES`."""
    splits = [dataset.split(name) for name in ("train", "validation", "test")]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.txt"
        lines = [f"__label__{label} {text}" for text, label in _lines(splits[0], is_chinese=is_chinese)]
        np.random.default_rng(0).shuffle(lines)  # fastText reads them as they come
        path.write_text("\n".join(lines))
        models = [
            fasttext.train_supervised(str(path), epoch=epoch, lr=rate, wordNgrams=2, thread=1, verbose=0)
            for epoch in EPOCHS
            for rate in RATES
        ]
    scores = [[_score(model, split, is_chinese=is_chinese) for split in splits[1:]] for model in models]
    validation, test = max(scores)
    return validation, test


def _score(model: fasttext.FastText._FastText, split: Split, *, is_chinese: bool) -> float:
    rows = _lines(split, is_chinese=is_chinese)
    given = [model.f.predict(text + "\n", 1, 0.0, "strict")[0][1] for text, _ in rows]
    return float(np.mean([answer == f"__label__{label}" for answer, (_, label) in zip(given, rows, strict=True)]))


def _lines(split: Split, *, is_chinese: bool) -> list[tuple[str, int]]:
    def line(text: str) -> str:
        return " ".join("".join(text.lower().split()) if is_chinese else _TOKEN.findall(text.lower()))

    return [(line(text), int(label)) for text, label in zip(split.texts(), split.labels, strict=True)]


def _statistics(frames: np.ndarray) -> np.ndarray:
    return np.concatenate([frames.mean(0), frames.std(0), frames.min(0), frames.max(0)])

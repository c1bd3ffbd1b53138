"""Classifiers that run in process: OpenVINO on the run's own graph; fastText and TF-IDF with logistic regression."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.dataset import Dataset

TF_IDF: dict[str, Any] = {"ngram_range": (1, 2), "sublinear_tf": True}
_TOKEN = re.compile(r"\w+|[^\w\s]")


class OpenVinoClassifier:
    """The part of the run's graph from token ids on, compiled as OpenVINO does by default (it knows no tokenizer)."""

    def __init__(self, run: Path, classes: Sequence[str]) -> None:
        import onnx
        import openvino

        from pipeline.bench.classifiers import classifier_part
        from pipeline.tokenizer import Tokenizer

        part = classifier_part(onnx.load(run / "model.onnx"))
        core = openvino.Core()
        self._model = core.compile_model(core.read_model(part.SerializeToString()), "CPU")
        self._tokenizer = Tokenizer(run / "tokenizer.onnx")
        self._classes = classes

    def labels(self, texts: Sequence[str]) -> list[str]:
        """Return the label of each text."""
        token_ids, lengths = self._tokenizer.encode(texts).padded(np.arange(len(texts)))
        token_ids = token_ids.astype(np.int64)  # of C's long; OpenVINO knows no long long, which ONNX Runtime gives
        probabilities = self._model({"token_ids": token_ids, "lengths": lengths[:, None]})["probabilities"]
        return [self._classes[number] for number in probabilities.argmax(1)]


class FastTextClassifier:
    """Supervised fastText over words, signs and pairs of them."""

    def __init__(self, path: Path) -> None:
        import fasttext

        fasttext.FastText.eprint = lambda _: None  # it warns of a change of years ago
        self._model = fasttext.load_model(str(path))

    def labels(self, texts: Sequence[str]) -> list[str]:
        """Return the label of each text."""
        answers = (self._model.f.predict(_line(text) + "\n", 1, 0.0, "strict") for text in texts)
        return [answer[0][1].removeprefix("__label__") for answer in answers]


class LinearClassifier:
    """TF-IDF of words and pairs of them with logistic regression, out of the numbers that it learned."""

    def __init__(self, path: Path) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression

        with np.load(path) as learned:
            self._vectorizer = TfidfVectorizer(**TF_IDF, vocabulary=path.with_suffix(".txt").read_text().split("\n"))
            self._vectorizer.idf_ = learned["idf"]
            self._model = LogisticRegression()
            self._model.coef_, self._model.intercept_ = learned["coef"], learned["intercept"]
            self._model.classes_ = learned["classes"]

    def labels(self, texts: Sequence[str]) -> list[str]:
        """Return the label of each text."""
        return self._model.predict(self._vectorizer.transform(texts)).tolist()


def train_cheap_ones(data: Path, folder: Path) -> None:
    """Train both on the training split, as docs/results.md does, with the settings that were mostly best there."""
    import fasttext
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    dataset = Dataset(data)
    split = dataset.split("train")
    texts, labels = split.texts(), [dataset.classes[number] for number in split.labels]
    vectorizer = TfidfVectorizer(**TF_IDF)
    linear = LogisticRegression(C=10, max_iter=1000).fit(vectorizer.fit_transform(texts), labels)
    (folder / "linear.txt").write_text("\n".join(vectorizer.get_feature_names_out()))
    np.savez(
        folder / "linear.npz",
        idf=vectorizer.idf_,
        coef=linear.coef_,
        intercept=linear.intercept_,
        classes=linear.classes_.astype(str),
    )
    lines = [f"__label__{label} {_line(text)}" for text, label in zip(texts, labels, strict=True)]
    np.random.default_rng(0).shuffle(lines)  # fastText reads them as they come
    (folder / "train.txt").write_text("\n".join(lines))
    options = {"epoch": 5, "lr": 0.5, "wordNgrams": 2, "bucket": 500_000, "thread": 1, "verbose": 0}
    fasttext.train_supervised(str(folder / "train.txt"), **options).save_model(str(folder / "fasttext.bin"))


def _line(text: str) -> str:
    return " ".join(_TOKEN.findall(text.lower()))

"""What is asked: a run, texts of its test split with the labels they are to get, and what each peer answers from."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from engines import FastTextClassifier, LinearClassifier, train_cheap_ones

from pipeline.bench.serving import read_texts
from pipeline.dataset import Dataset
from pipeline.files import read_json, write_json
from pipeline.run_directory import RunDirectory
from pipeline.runtime import open_session
from pipeline.sequences import feed
from pipeline.signature import Signature

JUDGED, ASKED = 2000, 256
CLEAR = 0.1  # between the two best probabilities: no engine's rounding moves them as far


@dataclass(frozen=True)
class Case:
    """A run and its texts, prepared.

    Attributes:
        name: of the data set.
        folder: where what was prepared lies.
        run: the run directory.
        weights: the first digits of the weights' SHA-256.
        variant: what `export` chose: fp32, or the suffix of the variant's file.
        classes: the label of each class.
        texts: those that are asked under load; their labels are clear, so that rounding is no excuse.
        expected: their labels in float32.
        sample: as many texts, drawn without regard to that, to count how often answers agree.
        sample_expected: their labels in float32.
        accuracies: shares of `JUDGED` test texts that are right: of the run in float32, of fastText, of TF-IDF.
        mean_words: words in a text, on average.
    """

    name: str
    folder: Path
    run: Path
    weights: str
    variant: str
    classes: tuple[str, ...]
    texts: list[bytes]
    expected: list[str]
    sample: list[bytes]
    sample_expected: list[str]
    accuracies: dict[str, float]
    mean_words: float

    @property
    def summary(self) -> dict[str, Any]:
        """What the tables say of it."""
        return {"variant": self.variant, "words": self.mean_words, "accuracies": self.accuracies}

    def model(self, variant: str) -> Path:
        """Return the file of a variant."""
        return self.run / ("model.onnx" if variant == "fp32" else f"model.{variant}.onnx")

    @classmethod
    def open(cls, name: str, work: Path) -> "Case":
        """Read what `prepare` left."""
        record: dict[str, Any] = read_json(work / name / "case.json")
        for key in ("texts", "sample"):
            record[key] = [text.encode() for text in record[key]]
        classes = tuple(record.pop("classes"))
        return cls(name=name, folder=work / name, run=Path(record.pop("run")), classes=classes, **record)


def prepare(name: str, run: Path, data: Path, work: Path) -> Case:
    """Draw texts, label them, train the cheap ones, and publish both models into a repository of their own."""
    folder = work / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    directory = RunDirectory.open(run.resolve())
    classes = Signature.load(directory / "signature.json").classes
    chosen = read_json(directory.require("variants.json"))["chosen"]
    for variant in dict.fromkeys(["fp32", chosen]):
        _publish(run, folder / "repository", f"{name}-{variant}", variant)
    train_cheap_ones(data, folder)

    texts = read_texts(data, count=JUDGED)
    dataset = Dataset(data)
    split = dataset.split("test")
    true_labels = dict(zip(split.texts(), split.labels, strict=True))
    true = np.array([dataset.classes[true_labels[text.decode()]] for text in texts])
    probabilities = _probabilities(directory / "model.onnx", [text.decode() for text in texts])
    labels = np.array(classes)[probabilities.argmax(1)]
    cheap = {
        "fastText": FastTextClassifier(folder / "fasttext.bin"),
        "TF-IDF + LR": LinearClassifier(folder / "linear.npz"),
    }
    given = {each: np.array(one.labels([text.decode() for text in texts])) for each, one in cheap.items()}
    best = np.sort(probabilities, axis=1)
    is_clear = best[:, -1] - best[:, -2] >= CLEAR
    asked = np.flatnonzero(is_clear)[:ASKED]
    record = {
        "run": str(directory.path),
        "weights": directory.info["hashes"]["weights.safetensors"][:12],
        "variant": chosen,
        "classes": classes,
        "texts": [texts[index].decode() for index in asked],
        "expected": labels[asked].tolist(),
        "sample": [text.decode() for text in texts[:ASKED]],
        "sample_expected": labels[:ASKED].tolist(),
        "accuracies": {each: float((one == true).mean()) for each, one in {"fp32": labels, **given}.items()},
        "mean_words": float(np.mean([len(texts[index].split()) for index in asked])),
    }
    write_json(folder / "case.json", record)
    return Case.open(name, work)


def _probabilities(model: Path, texts: list[str], size: int = 64) -> np.ndarray:
    session = open_session(model)
    order = np.argsort([len(text) for text in texts])
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    found = [session.run(["probabilities"], feed("text", [texts[index] for index in batch]))[0] for batch in batches]
    probabilities: np.ndarray = np.concatenate(found)[np.argsort(np.concatenate(batches))]
    return probabilities


def _publish(run: Path, repository: Path, name: str, variant: str) -> None:
    chosen = [] if variant == "fp32" else ["--variant", variant]
    command = [sys.executable, "-m", "pipeline", "publish", run, "--repository", repository, "--name", name, *chosen]
    subprocess.run(command, check=True, stdout=sys.stderr)

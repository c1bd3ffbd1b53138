"""From a recipe and a data set to all that training needs before its first step."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import onnx
import torch

from pipeline.dataset import Dataset, Split, SplitName
from pipeline.encoding import encode, stored
from pipeline.errors import DataError, UsageError
from pipeline.files import write_bytes
from pipeline.model import LSTMClassifier, Shape
from pipeline.model.inputs import FrameStandardisation, TokenEmbedding
from pipeline.readers.rows import Record
from pipeline.readers.source import read_records, sha256_of_source
from pipeline.recipe import Recipe
from pipeline.sequences import Sequences
from pipeline.tokenizer import FIRST_WORD_ID, Tokenizer, fit, read_vocabulary
from pipeline.train.augment import Augmentation
from pipeline.train.batches import Examples
from pipeline.train.pretrain import pretrain
from pipeline.vectors import out_of_vocabulary, read_vectors

_WINDOW = 2**12  # unlabelled texts in memory while they are encoded


@dataclass(frozen=True)
class Prepared:
    """A recipe applied to a data set, before the first step.

    Attributes:
        model: the classifier with its initial weights.
        training: the split to learn from.
        validation: the split that chooses the best epoch.
        augmentation: how the training split is varied.
        unlabelled: the texts to pre-train on, encoded; None for no pre-training.
        record: what ``run.json`` says of it.
    """

    model: LSTMClassifier
    training: Examples
    validation: Examples
    augmentation: Augmentation
    unlabelled: Sequences | None
    record: dict[str, Any]


def prepare_and_pretrain(dataset: Dataset, keys: Recipe) -> Prepared:
    """Return what the first step of `pipeline train` starts from, without a run.

    Raises:
        UsageError: the recipe does not fit the data; see also `prepare`.
        PipelineError: pre-training diverged.
    """
    check_recipe(keys, dataset)
    prepared = prepare(dataset, keys)
    if prepared.unlabelled is not None:
        deque(pretrain(prepared.model, prepared.unlabelled, keys), maxlen=0)
    return prepared


def prepare(dataset: Dataset, keys: Recipe, folder: Path | None = None) -> Prepared:
    """Fit the tokenizer, encode the splits, and make the model with its initial weights.

    Args:
        dataset: a prepared data set.
        keys: the recipe; its seed decides the weights.
        folder: where ``tokenizer.onnx`` is written, or stands already; None: nowhere.

    Raises:
        DataError: a split, or the file of word vectors, is damaged.
        UsageError: there is no file of word vectors, or its vectors have another size.
    """
    torch.manual_seed(keys.train.seed)
    split = dataset.split("train")
    tokenizer, vocabulary = _tokenizer(split.each_text(), keys, folder) if dataset.interface == "text" else (None, [])
    training, validation = (_examples(dataset, name, tokenizer) for name in ("train", "validation"))
    size = FIRST_WORD_ID + len(vocabulary) if tokenizer else None
    model = LSTMClassifier(keys.model, Shape(len(dataset.classes), size, dataset.feature_size))
    record: dict[str, Any] = {"vocabulary_size": size}
    if isinstance(model.embedding, FrameStandardisation):
        deviation = model.embedding.fit(training.sequences.values)
        augmentation = Augmentation(keys.augment, deviation=deviation, mean=model.embedding.mean.numpy())
        return Prepared(model, training, validation, augmentation, None, record)
    if keys.model.vectors:
        record["vectors"] = _take_vectors(model.embedding, vocabulary, keys)
    model.embedding.weight.requires_grad_(not keys.model.freeze_embedding)
    texts = split if keys.augment.typos else None
    augmentation = Augmentation(keys.augment, texts, tokenizer)
    return Prepared(model, training, validation, augmentation, _unlabelled(keys, split, training, tokenizer), record)


def check_recipe(keys: Recipe, dataset: Dataset) -> None:
    """Refuse what needs words where there are frames."""
    needs_words = {
        "adversarial.method=word": keys.adversarial.method == "word",
        "model.vectors": bool(keys.model.vectors),
        "pretrain.texts": bool(keys.pretrain.texts),
    }
    for name, is_used in needs_words.items():
        if is_used and dataset.interface != "text":
            raise UsageError(f"{name}: is for texts, and {dataset.path} holds features. Leave it out.")


def _tokenizer(texts: Iterable[str], keys: Recipe, folder: Path | None) -> tuple[Tokenizer, list[str]]:
    """Return the tokenizer, fitted unless it stands in the folder already, and its vocabulary."""
    if folder is not None and (folder / "tokenizer.onnx").exists():
        graph = onnx.load(folder / "tokenizer.onnx")
    else:
        graph = fit(texts, keys.tokenizer)
    content = graph.SerializeToString(deterministic=True)
    if folder is not None:
        write_bytes(folder / "tokenizer.onnx", content)
    return Tokenizer(content), read_vocabulary(graph)


def _examples(dataset: Dataset, name: SplitName, tokenizer: Tokenizer | None) -> Examples:
    split = dataset.split(name)
    return Examples(encode(split, tokenizer), split.labels)


def _unlabelled(keys: Recipe, split: Split, training: Examples, tokenizer: Tokenizer | None) -> Sequences | None:
    """Return the texts to pre-train on: the training split's own, or a file's and those.

    Raises:
        DataError: the file holds no text.
        UsageError: there is no such file, or it has no column of texts.
    """
    source = keys.pretrain.texts
    if not source or tokenizer is None:
        return None
    if source == "train":
        return training.sequences
    records = (record.input for record in read_records(source) if isinstance(record, Record))
    texts = (text.encode("utf-8", "ignore").decode() for text in records if isinstance(text, str) and text)
    windows = iter(lambda: list(islice(texts, _WINDOW)), [])

    def encoded() -> Iterator[Sequences]:
        first = next(windows, None)
        if first is None:
            raise DataError(f"{source}: holds no text to pre-train on. See pretrain.texts.")
        yield training.sequences
        for some in chain([first], windows):
            yield tokenizer.encode(some)

    return stored((str(split.sha256), sha256_of_source(source), tokenizer.sha256), encoded)


def _take_vectors(embedding: TokenEmbedding, vocabulary: list[str], keys: Recipe) -> dict[str, Any]:
    """Give the tokens that a file knows its vectors, and bring the vectors of the others to their spread."""
    vectors = read_vectors(Path(keys.model.vectors), vocabulary, is_lowercase=keys.tokenizer.lowercase)
    if vectors.size != keys.model.embedding_size:
        raise UsageError(
            f"model.embedding_size: wanted {vectors.size}, the size of the vectors in {vectors.path}, got "
            f"{keys.model.embedding_size}."
        )
    matrix = torch.from_numpy(vectors.matrix)
    found = torch.from_numpy(vectors.found)
    with torch.no_grad():
        rows = embedding.weight[FIRST_WORD_ID:]
        rows[~found] *= matrix[found].std(correction=0) / rows.std(correction=0)
        rows[found] = matrix[found]
    return out_of_vocabulary(vectors, vocabulary)

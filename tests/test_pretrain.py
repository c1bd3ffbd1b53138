from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline import recipe
from pipeline.dataset import Dataset
from pipeline.errors import DataError, UsageError
from pipeline.files import sha256_of
from pipeline.model import LSTMClassifier, Shape
from pipeline.recipe import ModelKeys, PretrainKeys, Recipe, TrainKeys
from pipeline.sequences import Sequences
from pipeline.train import Choices, Epoch, Pretrained, Step, resume, train
from pipeline.train.prepare import prepare
from pipeline.train.pretrain import LanguageModel, pretrain
from tests.conftest import QUICK_TEXT

SMALL = ModelKeys(embedding_size=8, hidden_size=6, dropout=0.0)


def model(**keys: object) -> LSTMClassifier:
    torch.manual_seed(0)
    return LSTMClassifier(ModelKeys(**{**vars(SMALL), **keys}), Shape(classes=3, vocabulary_size=30))


def counting_texts() -> Sequences:
    """Each word is the one before plus one: a language that can be learned without error in both directions."""
    generator = np.random.default_rng(0)
    return Sequences.join(
        [2 + (start + np.arange(length)) % 20 for start, length in generator.integers(2, 19, (300, 2))]
    )


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shape", [{}, {"bidirectional": False, "layers": 2}, {"layers": 2}, {"cell": "gru"}])
def test_a_language_is_learned_and_the_layers_that_read_it_move(tied: bool, shape: dict[str, object]) -> None:
    one = model(**shape)
    before = {name: value.clone() for name, value in one.state_dict().items()}
    keys = Recipe(
        pretrain=PretrainKeys(texts="train", epochs=25, negatives=50, learning_rate=0.02, tied=tied),
        train=TrainKeys(batch_size=16),
    )
    losses = [event.loss for event in pretrain(one, counting_texts(), keys)]
    assert losses[-1] < losses[0] / 2
    moved = {name for name, value in one.state_dict().items() if not torch.equal(value, before[name])}
    depth = 2 if shape.get("bidirectional") is False else 1
    expected = {
        name
        for name in before
        if name.startswith("embedding") or (name.startswith("layers.") and int(name.split(".")[1]) < depth)
    }
    assert moved == expected
    assert not one.embedding.weight[0].any(), "padding stays the zero vector"


def test_no_direction_sees_the_word_it_predicts() -> None:
    """Changing a word moves no guess at that word: neither the forward nor the backward state beside it."""
    one = model().eval()
    LanguageModel(one, tied=True)
    ids, lengths = torch.tensor([[3, 4, 5, 6, 7]]), torch.tensor([5])
    other = torch.tensor([[3, 4, 9, 6, 7]])
    H = 6
    a, b = (one.states(one.embedding(x), lengths, 1) for x in (ids, other))
    assert torch.equal(a[:, :2, :H], b[:, :2, :H]), "forward states up to the word before"
    assert torch.equal(a[:, 3:, H:], b[:, 3:, H:]), "backward states from the word after"
    assert not torch.equal(a[:, 2], b[:, 2])


def test_pretraining_is_a_part_of_training_and_of_what_is_resumed(text_data: Path, tmp_path: Path) -> None:
    settings = (*QUICK_TEXT, "pretrain.texts=train", "pretrain.epochs=2", "pretrain.negatives=100")
    events: list[Pretrained | Step | Epoch] = []
    whole = train(text_data, recipe.load(None, settings), tmp_path, Choices(progress=events.append))
    assert [type(event) for event in events[:3]] == [Pretrained, Pretrained, Step]
    plain = train(text_data, recipe.load(None, QUICK_TEXT), tmp_path)
    assert sha256_of(whole / "weights.safetensors") != sha256_of(plain / "weights.safetensors")
    assert {path.name for path in whole.path.iterdir()} == {path.name for path in plain.path.iterdir()}

    def interrupt(event: Pretrained | Step | Epoch) -> None:
        if isinstance(event, Step):
            raise KeyboardInterrupt

    cut = train(text_data, recipe.load(None, settings), tmp_path, Choices(progress=interrupt))
    assert (cut / "pretrained.safetensors").exists()
    resume(cut)
    assert sha256_of(cut / "weights.safetensors") == sha256_of(whole / "weights.safetensors")


def test_a_file_of_texts_is_read_beside_the_training_split(text_data: Path, tmp_path: Path) -> None:
    (tmp_path / "more.jsonl").write_text('{"text": "the film is lovely"}\n{"text": "my dinner was a bore"}\n')
    keys = recipe.load(None, (*QUICK_TEXT, f"pretrain.texts={tmp_path / 'more.jsonl'}"))
    prepared = prepare(Dataset(text_data), keys)
    assert prepared.unlabelled is not None
    assert len(prepared.unlabelled) == len(prepared.training.labels) + 2
    assert len(prepared.unlabelled.padded(np.array([len(prepared.unlabelled) - 1]))[0][0]) == 5


def test_texts_that_are_not_there_are_named(text_data: Path, feature_data: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text('{"text": ""}\n')
    with pytest.raises(DataError, match="empty.jsonl: holds no text to pre-train on"):
        prepare(Dataset(text_data), recipe.load(None, (f"pretrain.texts={tmp_path / 'empty.jsonl'}",)))
    with pytest.raises(UsageError, match="none.jsonl"):
        prepare(Dataset(text_data), recipe.load(None, (f"pretrain.texts={tmp_path / 'none.jsonl'}",)))
    with pytest.raises(UsageError, match=r"pretrain.texts: is for texts, and .* holds features"):
        train(feature_data, recipe.load(None, ("pretrain.texts=train",)), tmp_path)

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.model import LSTMClassifier, Shape
from pipeline.model.recurrent import RecurrentLayer
from pipeline.model.scoring import logits_of
from pipeline.recipe import POOLINGS, ModelKeys
from pipeline.sequences import Sequences

SMALL = ModelKeys(embedding_size=8, hidden_size=6, dropout=0.0)
VARIANTS = [
    *(
        pytest.param(replace(SMALL, pooling=pooling, bidirectional=both), id=f"{pooling}-{'bi' * both}directional")
        for pooling, both in itertools.product(POOLINGS, (True, False))
    ),
    pytest.param(replace(SMALL, layers=2), id="2 layers"),
    pytest.param(replace(SMALL, layers=3), id="3 layers"),
    pytest.param(replace(SMALL, layers=4, residual=True), id="4 layers, residual"),
    pytest.param(replace(SMALL, layers=2, norm="layer"), id="2 layers, layer norm"),
    pytest.param(replace(SMALL, layers=2, norm="batch"), id="2 layers, batch norm"),
    pytest.param(replace(SMALL, convolution=3), id="convolution"),
    pytest.param(replace(SMALL, cell="gru", layers=2), id="GRU"),
    pytest.param(replace(SMALL, cell="gru", bidirectional=False), id="GRU, one way"),
    pytest.param(replace(SMALL, dropout=0.2, locked_dropout=True), id="locked dropout"),
    pytest.param(replace(SMALL, embedding_dropout=0.2), id="embedding dropout"),
    pytest.param(replace(SMALL, weight_dropout=0.2), id="weight dropout"),
    pytest.param(
        replace(
            SMALL,
            layers=3,
            norm="batch",
            residual=True,
            pooling="max+attention",
            convolution=5,
            dropout=0.1,
            locked_dropout=True,
            embedding_dropout=0.1,
            weight_dropout=0.1,
        ),
        id="all of it",
    ),
]


def make(keys: ModelKeys) -> LSTMClassifier:
    torch.manual_seed(0)
    return LSTMClassifier(keys, Shape(classes=3, vocabulary_size=20)).eval()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([7, 1, 4, 2, 7])
    token_ids = torch.randint(1, 20, (5, 7), generator=torch.Generator().manual_seed(1))
    return torch.where(torch.arange(7) < lengths[:, None], token_ids, 0), lengths


@pytest.mark.parametrize("keys", VARIANTS)
def test_a_padded_batch_equals_its_single_rows(keys: ModelKeys) -> None:
    model, (token_ids, lengths) = make(keys), batch()
    together = model(token_ids, lengths)
    alone = torch.cat([model(row[None, :n], n[None]) for row, n in zip(token_ids, lengths, strict=True)])
    assert (together - alone).abs().max() <= 1e-6


@pytest.mark.parametrize("keys", VARIANTS)
def test_what_stands_in_the_padding_does_not_matter(keys: ModelKeys) -> None:
    model, (token_ids, lengths) = make(keys), batch()
    other = torch.where(token_ids == 0, 5, token_ids)
    assert torch.equal(model(token_ids, lengths), model(other, lengths))


@pytest.mark.parametrize("keys", VARIANTS)
def test_every_parameter_receives_a_gradient(keys: ModelKeys) -> None:
    model, (token_ids, lengths) = make(keys), batch()
    model(token_ids, lengths).square().sum().backward()
    assert [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()] == []


@pytest.mark.parametrize("keys", VARIANTS)
def test_one_batch_can_be_learned_by_heart(keys: ModelKeys) -> None:
    model, (token_ids, lengths) = make(keys), batch()
    labels = torch.tensor([0, 1, 2, 0, 1])
    optimizer = torch.optim.Adam(model.train().parameters(), 0.03)
    for _ in range(150):
        loss = functional.cross_entropy(model(token_ids, lengths), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01


@pytest.mark.parametrize("bidirectional", [True, False])
def test_the_layer_equals_pytorch_on_packed_sequences(bidirectional: bool) -> None:
    torch.manual_seed(0)
    layer = RecurrentLayer(5, 4, bidirectional=bidirectional)
    packed_lstm = nn.LSTM(5, 4, batch_first=True, bidirectional=bidirectional)
    for suffix, direction in zip(("", "_reverse"), layer.directions, strict=False):
        for name, value in direction.named_parameters():
            getattr(packed_lstm, name + suffix).data.copy_(value.data)
    inputs, lengths = torch.randn(4, 9, 5), torch.tensor([9, 1, 5, 3])
    packed = nn.utils.rnn.pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(packed_lstm(packed)[0], batch_first=True)
    is_valid = torch.arange(9) < lengths[:, None]
    assert (layer(inputs, lengths) - expected)[is_valid].abs().max() <= 1e-6


def test_recurrent_weights_are_orthogonal_and_forget_gates_open_at_the_start() -> None:
    (direction,) = RecurrentLayer(5, 4, bidirectional=False).directions
    for gate in direction.weight_hh_l0.detach().chunk(4):
        torch.testing.assert_close(gate @ gate.T, torch.eye(4), atol=1e-6, rtol=0)
    bias = direction.bias_ih_l0.detach() + direction.bias_hh_l0.detach()
    assert bias.tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 8


def test_frames_are_normalised_by_the_training_split_and_a_constant_feature_is_harmless() -> None:
    model = LSTMClassifier(ModelKeys(hidden_size=4), Shape(classes=2, feature_size=3))
    frames = torch.randn(1000, 3) * torch.tensor([5.0, 0.1, 0.0]) + torch.tensor([1e3, -2.0, 7.0])
    model.embedding.fit(frames.numpy())
    normalised = model.embedding(frames)
    assert normalised.mean(0).abs().max() < 1e-2
    torch.testing.assert_close(normalised.std(0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-2, rtol=0)


def test_instance_norm_makes_rows_alike_that_differ_in_loudness_and_takes_padding_for_nothing() -> None:
    torch.manual_seed(0)
    keys = ModelKeys(hidden_size=4, instance_norm=True)
    model = LSTMClassifier(keys, Shape(classes=2, feature_size=3)).eval()
    row = torch.randn(1, 6, 3)
    louder = row * torch.tensor([2.0, 3.0, 4.0]) + torch.tensor([1.0, -1.0, 5.0])
    lengths = torch.tensor([6])
    torch.testing.assert_close(model(louder, lengths), model(row, lengths), atol=1e-4, rtol=0)
    padded = functional.pad(row, (0, 0, 0, 3), value=7.0)
    assert (model(padded, lengths) - model(row, lengths)).abs().max() <= 1e-6
    one_frame = row[:, :1]
    assert model(one_frame, torch.tensor([1])).isfinite().all()


def test_logits_come_back_in_the_order_of_the_sequences() -> None:
    model = make(SMALL)
    sequences = Sequences.join([np.full(length, length, np.int64) for length in (3, 9, 1, 5)])
    logits = logits_of(model, sequences, batch_size=2)
    for index, length in enumerate((3, 9, 1, 5)):
        alone = model(torch.full((1, length), length), torch.tensor([length]))
        torch.testing.assert_close(logits[index : index + 1], alone, atol=1e-6, rtol=0)

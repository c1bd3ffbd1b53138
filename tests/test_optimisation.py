"""What happens between a batch and the weights: schedule, clipping, weights of classes, adversaries, calibration."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pipeline import recipe
from pipeline.data.split import split
from pipeline.dataset import Dataset
from pipeline.errors import UsageError
from pipeline.model import LSTMClassifier, Shape
from pipeline.model.perturbation import scaled
from pipeline.recipe import AdversarialKeys, AugmentKeys, ModelKeys, Recipe, TrainKeys
from pipeline.sequences import Sequences
from pipeline.train import Choices, Step, loop, train
from pipeline.train.adversarial import adversarial_loss
from pipeline.train.augment import Augmentation
from pipeline.train.batches import Batch, Examples, Loader, plan
from pipeline.train.calibrate import calibrate, fit_temperature
from pipeline.train.loop import Training, train_epochs
from pipeline.train.optimizer import ClassifierOptimizer
from pipeline.train.prepare import prepare
from pipeline.train.processes import Processes
from pipeline.train.schedule import learning_rate
from pipeline.train.state import State
from tests.conftest import QUICK_FEATURES, QUICK_TEXT

SMALL = ModelKeys(embedding_size=8, hidden_size=6, dropout=0.0)


def model(**keys: object) -> LSTMClassifier:
    torch.manual_seed(0)
    return LSTMClassifier(recipe.ModelKeys(**{**vars(SMALL), **keys}), Shape(classes=3, vocabulary_size=50))


def examples(rows: int = 40) -> Examples:
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 9, rows)
    return Examples(Sequences.join([generator.integers(1, 50, n) for n in lengths]), generator.integers(0, 3, rows))


def backward(one: LSTMClassifier) -> None:
    inputs, lengths = examples().sequences.padded(np.arange(10))
    one(torch.from_numpy(inputs), torch.from_numpy(lengths)).square().sum().backward()


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0.0, {0: 1, 0.5: 1, 1: 1}),
        ("constant", 0.5, {0: 0, 0.25: 0.5, 0.5: 1, 1: 1}),
        ("linear", 0.0, {0: 1, 0.25: 0.75, 1: 0}),
        ("linear", 0.2, {0.1: 0.5, 0.2: 1, 0.6: 0.5, 1: 0}),
        ("cosine", 0.0, {0: 1, 0.5: 0.5, 1: 0}),
        ("one_cycle", 0.0, {0: 1 / 25, 0.3: 1, 0.65: 0.5, 1: 0}),
    ],
)
def test_the_learning_rate_follows_its_schedule(schedule: str, warmup: float, expected: dict[float, float]) -> None:
    keys = TrainKeys(learning_rate=2.0, schedule=schedule, warmup=warmup)
    for progress, share in expected.items():
        assert learning_rate(keys, progress) == pytest.approx(2.0 * share, abs=1e-9)


def test_a_plateau_halves_the_rate_after_each_epoch_that_was_not_the_best() -> None:
    keys = TrainKeys(learning_rate=1.0, schedule="plateau")
    losses = [0.9, 0.8, 0.85, 0.7, 0.7]
    assert [learning_rate(keys, 0.5, losses[:n]) for n in range(6)] == [1, 1, 1, 0.5, 0.5, 0.25]


def test_layers_learn_at_discriminative_rates_and_unfreeze_one_by_one() -> None:
    one = model(layers=2)
    optimizer = ClassifierOptimizer(one, TrainKeys(layer_decay=0.5, gradual_unfreezing=True))
    layers = [one.head, one.layers[1], one.layers[0], one.embedding]
    for epoch in (1, 2, 3, 4):
        optimizer.set_rate(0.8, epoch)
        moving = [next(layer.parameters()).requires_grad for layer in layers]
        assert moving == [True] * epoch + [False] * (4 - epoch)
    rates = {id(p): g["lr"] for part in optimizer.parts for g in part.param_groups for p in g["params"]}
    assert [rates[id(next(layer.parameters()))] for layer in layers] == [0.8, 0.4, 0.2, 0.1]


def test_weight_decay_leaves_token_vectors_and_biases_alone() -> None:
    optimizer = ClassifierOptimizer(model(), TrainKeys(weight_decay=0.1))
    for group in optimizer.parts[0].param_groups:
        assert all((parameter.ndim > 1) == (group["weight_decay"] > 0) for parameter in group["params"])
    assert "weight_decay" not in optimizer.parts[1].param_groups[0]


def test_sparse_and_dense_gradients_of_token_vectors_move_them_alike() -> None:
    def moved(*, is_sparse: bool) -> torch.Tensor:
        one = model()
        optimizer = ClassifierOptimizer(one, TrainKeys(), is_sparse=is_sparse)
        for _ in range(3):
            optimizer.zero_grad()
            backward(one)
            optimizer.clip()
            optimizer.step()
        return one.embedding.weight.detach()

    torch.testing.assert_close(moved(is_sparse=True), moved(is_sparse=False))
    assert not torch.equal(moved(is_sparse=True), model().embedding.weight)


@pytest.mark.parametrize("is_sparse", [True, False])
def test_gradients_are_clipped_by_norm_and_by_value(is_sparse: bool) -> None:
    one = model()
    optimizer = ClassifierOptimizer(one, TrainKeys(clip_norm=0.5), is_sparse=is_sparse)
    backward(one)
    before = float(torch.stack([g.norm() for g in optimizer.gradients()]).norm())
    assert optimizer.clip() == (pytest.approx(before, rel=1e-5), True)
    assert float(torch.stack([g.norm() for g in optimizer.gradients()]).norm()) == pytest.approx(0.5, rel=1e-4)
    by_value = ClassifierOptimizer(one, TrainKeys(clip_norm=1e9, clip_value=1e-3), is_sparse=is_sparse)
    norm, is_clipped = by_value.clip()
    assert max(float(g.abs().max()) for g in by_value.gradients()) == pytest.approx(1e-3)
    assert norm == pytest.approx(0.5, rel=1e-4)
    assert is_clipped
    assert not ClassifierOptimizer(one, TrainKeys(clip_norm=1e9, clip_value=0.1), is_sparse=is_sparse).clip()[1]


def test_accumulated_batches_make_the_step_of_one_large_batch() -> None:
    def weights(**keys: int) -> torch.Tensor:
        one, data = model(), examples()
        train_keys = TrainKeys(epochs=1, optimizer="sgd", learning_rate=0.1, precision="fp32", **keys)
        state = State.fresh(one, train_keys)
        list(train_epochs(state, Training(Recipe(train=train_keys), data, data, Augmentation(AugmentKeys()))))
        return one.head.weight.detach()

    torch.testing.assert_close(weights(batch_size=40), weights(batch_size=10, accumulate=4), atol=1e-6, rtol=1e-4)


def test_a_virtual_loss_counts_each_row_as_the_clean_one_does() -> None:
    """Accumulated batches and several processes each give the part that they are of a step."""
    inputs, lengths = (torch.from_numpy(array) for array in examples().sequences.padded(np.arange(40)))
    keys = AdversarialKeys(method="virtual", size=1.0)

    def loss(share: float) -> float:
        one = model().train()
        return adversarial_loss(one, inputs, lengths, one.embedding(inputs), share, torch.sum, keys).item()

    assert loss(1 / 40) > 0
    assert loss(1 / 160) == pytest.approx(loss(1 / 40) / 4)
    assert loss(0) == 0, "a row that stands in where a process has none"


def test_a_virtual_adversary_is_blind_to_dropout() -> None:
    """A change of no size moves no answer, whatever dropout does."""
    one = model(dropout=0.5).train()
    inputs, lengths = (torch.from_numpy(array) for array in examples().sequences.padded(np.arange(40)))
    keys = AdversarialKeys(method="virtual", size=0.0)
    loss = adversarial_loss(one, inputs, lengths, one.embedding(inputs), 1.0, torch.sum, keys)
    assert loss.item() == pytest.approx(0, abs=1e-6)


def test_a_virtual_adversary_finds_its_way_in_bfloat16_too() -> None:
    """The virtual loss, weighed so that it alone counts, has the same gradient in either precision."""
    data, recipe_ = examples(), Recipe(adversarial=AdversarialKeys(method="virtual", weight=1e6))
    inputs, lengths = (torch.from_numpy(array) for array in data.sequences.padded(np.arange(40)))
    batch = Batch(inputs, lengths, torch.from_numpy(data.labels), 1 / 40, int(lengths.sum()))

    def gradient(*, is_bf16: bool) -> torch.Tensor:
        one = model().train()
        loop.backward(one, batch, None, recipe_, is_bf16=is_bf16)
        return one.head.weight.grad

    exact = gradient(is_bf16=False)
    torch.testing.assert_close(gradient(is_bf16=True), exact, rtol=0, atol=0.02 * float(exact.abs().max()))


def test_a_direction_keeps_its_length_however_small_its_numbers_are() -> None:
    steps, lengths = torch.ones(2, 3, 4), torch.tensor([3, 2])
    direction = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    for size in (1.0, 1e-25, 1e-38, 1e25):
        change = scaled(direction * size, steps, lengths, 0.5)
        torch.testing.assert_close(change.square().sum((1, 2)).sqrt(), torch.full((2,), 0.5 * 2), rtol=1e-3, atol=0)
    assert not scaled(torch.zeros(2, 3, 4), steps, lengths, 0.5).any()


def test_validation_never_copies_the_split() -> None:
    """It may be mapped from a file, and larger than the memory."""

    class Mapped(Sequences):
        def take(self, indices: np.ndarray) -> Sequences:
            raise AssertionError(f"{len(indices)} rows were copied")

    data = examples()
    mapped = Examples(Mapped(data.sequences.values, data.sequences.offsets), data.labels)
    keys = TrainKeys(epochs=1)
    training = Training(Recipe(train=keys), data, mapped, Augmentation(AugmentKeys()))
    (*_, last) = train_epochs(State.fresh(model(), keys), training)
    assert last.validation_accuracy > 0


def test_a_weight_of_a_class_is_one_of_its_rows_and_smoothing_changes_nothing_of_that() -> None:
    weights, one = torch.tensor([0.5, 1.0, 10.0]), model()
    for label, weight in enumerate(weights):
        batch = Batch(torch.tensor([[7, 8]]), torch.tensor([2]), torch.tensor([label]), 1.0, 2)
        keys = Recipe(train=TrainKeys(label_smoothing=0.3))
        plain, weighed = (loop.backward(one, batch, these, keys, is_bf16=False) for these in (None, weights))
        torch.testing.assert_close(weighed, plain * weight)


@pytest.mark.parametrize(("kind", "power"), [("balanced", 1.0), ("square_root", 0.5)])
def test_rare_classes_weigh_more_and_rows_one_on_average(kind: str, power: float) -> None:
    labels = np.array([0] * 16 + [1] * 4)
    data = Examples(Sequences.join([np.array([1])] * 20), labels)
    keys = Recipe(train=TrainKeys(class_weights=kind))
    weights = Training(keys, data, data, Augmentation(AugmentKeys())).class_weights(2)
    assert weights is not None
    assert float(weights[1] / weights[0]) == pytest.approx(4**power)
    assert float(weights[torch.from_numpy(labels)].mean()) == pytest.approx(1)


def test_batches_hold_a_budget_of_tokens_and_every_row_once() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 500)
    steps = plan(lengths, TrainKeys(batch_size=64, batch_tokens=400), epoch=1)
    batches = [batch for step in steps for batch in step]
    assert all(len(batch) <= 64 and len(batch) * lengths[batch].max() <= 400 for batch in batches)
    assert sorted(np.concatenate(batches)) == list(range(500))
    other = plan(lengths, TrainKeys(batch_size=64, batch_tokens=400), epoch=2)
    assert [list(b) for s in steps for b in s] != [list(b) for s in other for b in s]


def test_processes_share_each_batch_out() -> None:
    data = examples(7)
    planned = [[np.arange(4)], [np.array([4, 5]), np.array([6])]]
    rows: list[list[float]] = [[], []]
    for rank in (0, 1):
        loader = Loader(data, Augmentation(AugmentKeys()), 0, torch.device("cpu"), Processes(rank, 2))
        for step, batches in enumerate(loader.steps(planned, 1, 0)):
            rows[step].append(sum(len(batch.labels) * batch.share for batch in batches))
    assert [sum(step) for step in rows] == pytest.approx([1, 1])


@pytest.mark.parametrize("method", ["fgm", "pgd", "virtual", "word"])
def test_an_adversary_finds_a_greater_loss_of_the_allowed_size(method: str) -> None:
    one = model().train()
    data = examples()
    inputs, lengths = (torch.from_numpy(array) for array in data.sequences.padded(np.arange(40)))
    labels = torch.from_numpy(data.labels)
    seen: list[torch.Tensor] = []
    forward = one.forward_steps
    one.forward_steps = lambda steps, lengths: (seen.append(steps.detach()), forward(steps, lengths))[1]

    def criterion(logits: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, labels)

    steps = one.embedding(inputs)
    steps.retain_grad()
    logits = one.forward_steps(steps, lengths)
    clean = criterion(logits)
    clean.backward()
    size = 2.0 if method == "word" else 0.3
    keys = AdversarialKeys(method=method, size=size)
    extra = adversarial_loss(one, inputs, lengths, steps, 1 / len(labels), criterion, keys)
    assert extra > (0 if method == "virtual" else clean)
    extra.backward()
    change = (seen[-1] - seen[0]).square().sum(2)
    if method == "word":
        assert (change > 0).sum(1).max() == 2
    else:
        unit = seen[0].square().sum((1, 2)).div(lengths).sqrt()
        torch.testing.assert_close(change.sum(1).sqrt(), unit * size, atol=1e-4, rtol=1e-3)
    is_padding = torch.arange(inputs.shape[1]) >= lengths[:, None]
    assert not change[is_padding].any()


def test_words_cannot_be_changed_in_frames(feature_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"adversarial.method=word: is for texts, and .* holds features"):
        train(feature_data, recipe.load(None, ("adversarial.method=word", "adversarial.size=1")), tmp_path)


@pytest.mark.parametrize("key", ["augment.frame_noise=0.3", "augment.frame_masks=2", "augment.frame_stretch=0.3"])
def test_frames_are_varied_anew_in_each_epoch(key: str) -> None:
    keys = recipe.load(None, (key,)).augment
    frames = Sequences.join([np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32)] * 2)
    augmentation = Augmentation(keys, deviation=np.ones(12, np.float32), mean=np.full(12, 9.0, np.float32))
    first, _ = augmentation.batch(frames, np.arange(2), np.random.default_rng(0))
    second, lengths = augmentation.batch(frames, np.arange(2), np.random.default_rng(1))
    plain, _ = frames.padded(np.arange(2))
    assert first.shape != second.shape or not np.array_equal(first, second)
    assert first.shape != plain.shape or not np.array_equal(first, plain)
    assert first.dtype == np.float32
    assert (lengths > 0).all()


def test_noise_leaves_a_feature_alone_that_is_the_same_in_every_frame(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    features = np.stack([np.full(400, 7.0), generator.normal(size=400)], 1).astype(np.float32)
    np.savez(tmp_path / "f.npz", features=features, lengths=np.full(40, 10), labels=np.arange(40) % 2)
    data = split(str(tmp_path / "f.npz"), tmp_path / "f")
    prepared = prepare(Dataset(data), recipe.load(None, ("augment.frame_noise=0.5",)))
    noisy, _ = prepared.augmentation.batch(prepared.training.sequences, np.arange(4), generator)
    plain, _ = prepared.training.sequences.padded(np.arange(4))
    assert np.array_equal(noisy[:, :, 0], plain[:, :, 0])
    assert not np.array_equal(noisy[:, :, 1], plain[:, :, 1])


@pytest.mark.parametrize(
    "settings",
    [
        ("train.label_smoothing=0.1",),
        ("train.clip_value=0.001",),
        ("train.batch_tokens=200",),
        ("train.accumulate=3",),
        ("augment.typos=0.5",),
        ("adversarial.method=pgd",),
        ("adversarial.method=word", "adversarial.size=1"),
        ("train.layer_decay=0.5",),
        ("train.gradual_unfreezing=true",),
        ("train.optimizer=sgd", "train.nesterov=true"),
        ("train.schedule=one_cycle",),
        ("train.select=accuracy",),
        ("train.swa_from=1",),
    ],
    ids=lambda settings: settings[0],
)
def test_every_key_changes_training_and_still_learns(
    settings: tuple[str, ...], trained_run, text_data: Path, tmp_path: Path
) -> None:
    run = train(text_data, recipe.load(None, (*QUICK_TEXT, *settings)), tmp_path)
    ours, theirs = (
        [json.loads(line) for line in (one / "metrics.jsonl").read_text().splitlines()] for one in (run, trained_run)
    )
    assert ours[-1]["train_loss"] < ours[0]["train_loss"] + 0.01
    if settings != ("train.select=accuracy",):
        assert [e["validation_loss"] for e in ours] != [e["validation_loss"] for e in theirs]


def test_precision_is_as_the_recipe_says(text_data: Path, tmp_path: Path) -> None:
    def losses(precision: str) -> str:
        run = train(text_data, recipe.load(None, (*QUICK_TEXT, f"train.precision={precision}")), tmp_path)
        return str([json.loads(line)["train_loss"] for line in (run / "metrics.jsonl").read_text().splitlines()])

    assert losses("bf16") != losses("fp32")
    assert losses("auto") in {losses("bf16"), losses("fp32")}


def test_steps_tell_their_learning_rate_and_gradient_norm(feature_data: Path, tmp_path: Path) -> None:
    events: list[Step] = []
    settings = (*QUICK_FEATURES, "train.schedule=cosine", "train.epochs=2")
    train(feature_data, recipe.load(None, settings), tmp_path, Choices(progress=events.append))
    steps = [event for event in events if isinstance(event, Step)]
    rates = [step.learning_rate for step in steps]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(0.01)
    assert all(step.gradient_norm > 0 for step in steps)


def test_a_temperature_is_found_where_the_loss_is_least() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5000, 4, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(torch.softmax(logits, 1), 1, generator=generator)[:, 0]
    assert fit_temperature(logits * 3, labels) == pytest.approx(3, rel=0.1)
    assert fit_temperature(logits / 2, labels) == pytest.approx(0.5, rel=0.1)
    assert 1 / 20 <= fit_temperature(F.one_hot(labels, 4).double() / 100, labels) < 0.06, "it stops at its bound"


@pytest.mark.parametrize("rows", [24, 1000])
def test_answers_without_a_mistake_become_no_surer_than_their_number_allows(rows: int) -> None:
    labels = torch.arange(rows) % 3
    logits = 5.0 * F.one_hot(labels, 3).double()
    probability = torch.softmax(logits / fit_temperature(logits, labels), 1)[0, 0].item()
    assert 1 - probability == pytest.approx(2 / 3 / (rows + 1), rel=1e-3), "one row more, of which nothing is known"


def test_calibration_is_folded_into_the_head_and_changes_no_label() -> None:
    one, data = model(), examples(200)
    one.head.weight.data *= 30
    inputs, lengths = (torch.from_numpy(array) for array in data.sequences.padded(np.arange(200)))
    before = one.eval()(inputs, lengths)
    record = calibrate(one, data)
    after = one(inputs, lengths)
    torch.testing.assert_close(after * record["temperature"], before)
    assert torch.equal(after.argmax(1), before.argmax(1))
    assert record["after"]["loss"] < record["before"]["loss"]
    assert record["temperature"] > 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("train.swa_from=2", "train.ema_decay=0.9"), "train.swa_from: wanted 0 beside train.ema_decay"),
        (("adversarial.method=word",), "adversarial.size: wanted the number of words to change, at least 1"),
        (("train.nesterov=true",), "train.nesterov: wanted train.optimizer=sgd"),
        (("pretrain.texts=train", "model.convolution=3"), "pretrain.texts: wanted model.convolution=0"),
        (("model.convolution=4",), "model.convolution: wanted one of 0, 3, 5, 7, 9, got 4"),
    ],
)
def test_keys_that_contradict_each_other_are_named(settings: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        recipe.load(None, settings)

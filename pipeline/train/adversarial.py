"""Training against the worst small change of each input, found with the gradient.

Sources: FGM and virtual adversarial training: Miyato et al. 2017, Adversarial Training Methods for Semi-Supervised Text
Classification; PGD: Madry et al. 2018; words: Ebrahimi et al. 2018, HotFlip, with the unknown word as the only choice,
which is what a misspelt word becomes.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.model.classifier import LSTMClassifier
from pipeline.model.inputs import TokenEmbedding
from pipeline.recipe import AdversarialKeys
from pipeline.tokenizer import UNKNOWN_ID

Criterion = Callable[[Tensor], Tensor]  # logits (B, C) → the loss of the batch's true classes
_PROBE = 1e-2  # length, in root-mean-square norms, of the random step that virtual training differentiates at


def adversarial_loss(
    model: LSTMClassifier,
    inputs: Tensor,
    lengths: Tensor,
    steps: Tensor,
    logits: Tensor,
    criterion: Criterion,
    keys: AdversarialKeys,
) -> Tensor:
    """Return the loss on changed inputs; call it after the clean loss went backward.

    Args:
        model: in training mode.
        inputs: token ids or frames.
        lengths: (B,).
        steps: (B, T, F) what the model's embedding made of the inputs; its ``grad`` is the clean loss's.
        logits: (B, C) the clean ones.
        criterion: the clean loss.
        keys: the recipe's.
    """
    if keys.method == "virtual":
        return _virtual_loss(model, lengths, steps.detach(), logits.detach(), keys)
    assert steps.grad is not None  # noqa: S101 - the caller's contract
    if keys.method == "word":
        return criterion(model(_changed_words(model, inputs, steps, round(keys.size)), lengths))
    change = _scaled(steps.grad, steps.detach(), lengths, keys.size)
    if keys.method == "pgd":
        change = _descended(model, steps.detach(), lengths, change, criterion, keys)
    return criterion(model.forward_steps(model.embedding(inputs) + change, lengths))


def _descended(
    model: LSTMClassifier, steps: Tensor, lengths: Tensor, change: Tensor, criterion: Criterion, keys: AdversarialKeys
) -> Tensor:
    """Repeat the step along the gradient, each time back onto the sphere of the allowed size."""
    for _ in range(keys.steps - 1):
        moved = (steps + change).requires_grad_()
        (gradient,) = torch.autograd.grad(criterion(model.forward_steps(moved, lengths)), moved)
        change = change + _scaled(gradient, steps, lengths, keys.size / 2)
        change = _scaled(change, steps, lengths, keys.size)
    return change


def _virtual_loss(
    model: LSTMClassifier, lengths: Tensor, steps: Tensor, logits: Tensor, keys: AdversarialKeys
) -> Tensor:
    """Return how much the answer itself, not its label, can be made to move: KL(clean ‖ changed)."""
    target = torch.softmax(logits.float(), 1)

    def divergence(moved: Tensor) -> Tensor:
        changed = torch.log_softmax(model.forward_steps(moved, lengths).float(), 1)
        return functional.kl_div(changed, target, reduction="batchmean")

    probe = _scaled(torch.randn_like(steps), steps, lengths, _PROBE)
    moved = (steps + probe).requires_grad_()
    (gradient,) = torch.autograd.grad(divergence(moved), moved)
    return divergence(steps + _scaled(gradient, steps, lengths, keys.size))


def _scaled(direction: Tensor, steps: Tensor, lengths: Tensor, size: float) -> Tensor:
    """Return the direction, (B, T, F), cut to the valid steps and brought to a norm in each row.

    The norm is ``size`` times the root mean square of the norms of the row's steps.
    """
    is_valid = (torch.arange(steps.shape[1], device=steps.device) < lengths[:, None])[:, :, None]
    direction = torch.where(is_valid, direction, 0.0).float()
    energy = torch.where(is_valid, steps, 0.0).float().square().sum((1, 2)) / lengths
    norm = direction.square().sum((1, 2)).sqrt().clamp(min=torch.finfo(torch.float32).tiny)
    return direction * (size * energy.sqrt() / norm)[:, None, None]


def _changed_words(model: LSTMClassifier, inputs: Tensor, steps: Tensor, count: int) -> Tensor:
    """Return token ids with the words whose loss, to first order, would harm most made unknown."""
    assert isinstance(model.embedding, TokenEmbedding)  # noqa: S101 - the stage refuses the method for frames
    assert steps.grad is not None  # noqa: S101 - as above
    unknown = model.embedding.weight[UNKNOWN_ID].detach()
    harm = (steps.grad * (unknown - steps.detach())).sum(2)  # (B, T)
    harm = harm.masked_fill(inputs <= UNKNOWN_ID, -torch.inf)
    worst = harm.topk(min(count, harm.shape[1]), dim=1).indices
    changed = inputs.scatter(1, worst, UNKNOWN_ID)
    return torch.where(inputs <= UNKNOWN_ID, inputs, changed)

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
from pipeline.model.perturbation import scaled
from pipeline.recipe import AdversarialKeys
from pipeline.tokenizer import UNKNOWN_ID

Criterion = Callable[[Tensor], Tensor]  # logits (B, C) → the loss of the batch's true classes
_PROBE = 1e-2  # length, in root-mean-square norms, of the random step that virtual training differentiates at


def adversarial_loss(
    model: LSTMClassifier,
    inputs: Tensor,
    lengths: Tensor,
    steps: Tensor,
    share: float,
    criterion: Criterion,
    keys: AdversarialKeys,
) -> Tensor:
    """Return the loss on changed inputs; call it after the clean loss went backward.

    Args:
        model: in training mode.
        inputs: token ids or frames.
        lengths: (B,).
        steps: (B, T, F) what the model's embedding made of the inputs; its ``grad`` is the clean loss's.
        share: what each row counts.
        criterion: the clean loss, in which each row counts as much.
        keys: the recipe's.
    """
    if keys.method == "virtual":
        return _virtual_loss(model, lengths, steps.detach(), share, keys)
    assert steps.grad is not None  # noqa: S101 - the caller's contract
    if keys.method == "word":
        return criterion(model(_changed_words(model, inputs, steps, round(keys.size)), lengths))
    change = scaled(steps.grad, steps.detach(), lengths, keys.size)
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
        change = change + scaled(gradient, steps, lengths, keys.size / 2)
        change = scaled(change, steps, lengths, keys.size)
    return change


def _virtual_loss(model: LSTMClassifier, lengths: Tensor, steps: Tensor, share: float, keys: AdversarialKeys) -> Tensor:
    """Return how much the answer itself, not its label, can be made to move: KL(clean ‖ changed).

    All answers are given with the same values dropped. Otherwise the answer to the row as it is would differ already,
    and the gradient beside it would point away from what dropout did, not to where the answer is easily moved.
    """
    seed = int(torch.randint(2**62, ()))

    def answers(moved: Tensor) -> Tensor:
        torch.manual_seed(seed)
        return torch.log_softmax(model.forward_steps(moved, lengths).float(), 1)

    clean = answers(steps).detach()

    def divergence(moved: Tensor) -> Tensor:
        return functional.kl_div(answers(moved), clean, reduction="sum", log_target=True) * share

    probe = scaled(torch.randn_like(steps), steps, lengths, _PROBE)
    moved = (steps + probe).requires_grad_()
    (gradient,) = torch.autograd.grad(divergence(moved), moved)
    return divergence(steps + scaled(gradient, steps, lengths, keys.size))


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

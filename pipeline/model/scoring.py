"""Logits of many sequences, batch by batch, in their own order."""

import torch

from pipeline.model.classifier import LSTMClassifier
from pipeline.sequences import Sequences, length_batches

SCORING_BATCH = 128


@torch.inference_mode()
def logits_of(model: LSTMClassifier, sequences: Sequences, batch_size: int = SCORING_BATCH) -> torch.Tensor:
    """Return the logits of N sequences, (N, C) on the CPU; the model is left in evaluation mode."""
    model.eval()
    weight = model.head.weight
    logits = torch.empty(len(sequences), model.head.out_features, dtype=weight.dtype)
    for indices in length_batches(sequences.lengths, batch_size):
        inputs, lengths = (torch.from_numpy(array).to(weight.device) for array in sequences.padded(indices))
        logits[torch.from_numpy(indices)] = model(inputs, lengths).cpu()
    return logits

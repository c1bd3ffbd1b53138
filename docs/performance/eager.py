"""The run's own weights in PyTorch, as its tutorials teach: what FastAPI, LitServe and BentoML answer with."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from pipeline.model.recurrent import CELLS, RecurrentLayer
from pipeline.reference import Reference
from pipeline.run_directory import RunDirectory


class PackedLayer(nn.Module):
    """A `RecurrentLayer` as one PyTorch layer over packed sequences: the same weights, the same answers."""

    def __init__(self, layer: RecurrentLayer) -> None:
        super().__init__()
        is_bidirectional = len(layer.directions) == 2
        cell = CELLS[layer.cell]
        self.lstm = cell(layer.input_size, layer.hidden_size, batch_first=True, bidirectional=is_bidirectional)
        for direction, suffix in zip(layer.directions, ("", "_reverse"), strict=False):
            for name, value in direction.named_parameters():
                self.lstm.get_parameter(name + suffix).data.copy_(value.data)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Run the layer; shapes as `RecurrentLayer`."""
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=inputs.shape[1])[0]


class TorchClassifier:
    """A trained run that gives labels: the run's tokenizer, one padded batch, a packed LSTM, float32."""

    def __init__(self, run: Path, threads: int) -> None:
        self.threads = threads
        reference = Reference.load(RunDirectory.open(run))
        assert reference.tokenizer is not None  # noqa: S101 - only runs of texts are compared
        self.tokenizer, self.model = reference.tokenizer, reference.model
        self.model.layers = nn.ModuleList(PackedLayer(layer) for layer in self.model.recurrent_layers)
        self.classes = reference.signature.classes

    @torch.inference_mode()
    def labels(self, texts: Sequence[str]) -> list[str]:
        """Return the label of each text."""
        torch.set_num_threads(self.threads)
        inputs, lengths = self.tokenizer.encode(texts).padded(np.arange(len(texts)))
        logits = self.model(torch.from_numpy(inputs), torch.from_numpy(lengths))
        return [self.classes[number] for number in logits.argmax(1).tolist()]


def from_environment() -> TorchClassifier:
    """Return the classifier that `docs/performance` asks a server's worker for, and leave word that it is loaded."""
    classifier = TorchClassifier(Path(os.environ["PERFORMANCE_RUN"]), int(os.environ["PERFORMANCE_THREADS"]))
    (Path(os.environ["PERFORMANCE_LOADED"]) / str(os.getpid())).touch()
    return classifier

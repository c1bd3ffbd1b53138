"""What a variant is made from and measured with: the exported model, real rows, the gate."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from pipeline import gate, recipe
from pipeline.dataset import Dataset
from pipeline.errors import PipelineError
from pipeline.export.lower import Range, lowered, recurrent_nodes
from pipeline.export.ranges import entering
from pipeline.gate import Answer, Arranged, Precision
from pipeline.run_directory import RunDirectory
from pipeline.runtime import CPU, CUDA, has_cuda_driver, open_session
from pipeline.sequences import feed
from pipeline.signature import Interface

FP32 = "fp32"
RANGE_ROWS = 2048


@dataclass(frozen=True)
class Judge:
    """What variants are measured with.

    Attributes:
        model: as exported, in float32.
        interface: of the model.
        rows: of the validation split.
        labels: theirs.
        batch_size: the largest that Triton will make.
        expected: (N, C) probabilities of the exported model.
        ranges: by the node's name, what enters each recurrent layer.
    """

    model: onnx.ModelProto
    interface: Interface
    rows: list[Any]
    labels: np.ndarray
    batch_size: int
    expected: Arranged
    ranges: dict[str, Range]

    @classmethod
    def of(cls, run: RunDirectory, interface: Interface, dataset: Dataset) -> "Judge":
        """Ask the exported model everything that its variants will be asked."""
        model = onnx.load(run / "model.onnx")
        split, train = dataset.split("validation"), dataset.split("train")
        rows = gate.rows_of(split, interface)
        size = recipe.load(str(run / "recipe.toml")).publish.max_batch_size
        sample = train.take(np.sort(np.random.default_rng(0).permutation(len(train))[:RANGE_ROWS]))
        expected = gate.arranged(answers_of(model.SerializeToString(), interface), rows, size)
        ranges = entering(model, interface, gate.rows_of(sample, interface), size)
        return cls(model, interface, rows, split.labels, size, expected, ranges)

    def build(self, precision: Precision, kept: Sequence[str] = ()) -> bytes:
        """Return a variant, checked and serialised."""
        model = lowered(self.model, precision.name, self.ranges, kept)
        onnx.checker.check_model(model, full_check=True)
        content: bytes = model.SerializeToString(deterministic=True)
        return content

    def measured(self, content: bytes, precision: Precision) -> tuple[dict[str, Any], list[str]]:
        """Return a variant's figures and why it falls, if it does."""
        answer = answers_of(content, self.interface, precision.provider)
        figures = gate.figures(self.expected.by_length, gate.arranged(answer, self.rows, self.batch_size), self.labels)
        return figures, [f"{v.name}: {v.detail}" for v in gate.verdicts(figures, precision) if not v.passed]

    def speeds(self, content: bytes, precision: Precision) -> dict[str, Any]:
        """Return the rows a second of a variant, and their ratio to the exported model's on the same provider."""
        engines = {
            name: answers_of(model, self.interface, precision.provider)
            for name, model in ((FP32, self.model.SerializeToString()), (precision.name, content))
        }
        found = {}
        for size in sorted({1, self.batch_size}):
            rates = gate.speeds(engines, self.rows, size)
            ours, full = rates[precision.name], rates[FP32]
            found[str(size)] = {"rows_per_second": ours, "fp32_rows_per_second": full, "ratio": ours / full}
        return found

    def repairing(self, precision: Precision) -> list[str]:
        """Return the nodes that repair a fallen variant: with that one alone in float32, it passes."""
        nodes = [node.name for node in recurrent_nodes(self.model)]
        return [node for node in nodes if not self.measured(self.build(precision, [node]), precision)[1]]

    def own_figures(self) -> dict[str, Any]:
        """Return the exported model's figures against itself: its accuracy, and how far company moves it."""
        return gate.figures(self.expected.by_length, self.expected, self.labels)


def answers_of(model: bytes, interface: Interface, provider: str = CPU) -> Answer:
    """Open a model and return what asks it.

    Raises:
        PipelineError: it does not load, or not on this provider.
    """
    if provider == CUDA and not has_cuda_driver():
        raise PipelineError(f"only {provider} has kernels for it, and this machine has no CUDA driver")
    session = open_session(model, provider)

    def answer(rows: Sequence[Any]) -> np.ndarray:
        probabilities: np.ndarray = session.run(["probabilities"], feed(interface, rows))[0]
        return probabilities

    return answer

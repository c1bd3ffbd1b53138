"""One recurrent layer over right-padded batches, in two forms that give the same numbers.

`RecurrentLayer` is trained: its backward direction reads each row reversed within its own length, so no step of padding
ever enters a state that is used, and no packing slows it down. `OnnxRecurrentLayer` is exported: one ONNX ``LSTM`` or
``GRU`` node with ``sequence_lens``, its weights already in ONNX's order.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

FORGET = 1  # PyTorch stacks the gates as input, forget, cell, output
CELLS: dict[str, type[nn.LSTM | nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}
GATES = {"lstm": 4, "gru": 3}
ONNX_GATES = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}  # input, output, forget, cell; update, reset, hidden


class RecurrentLayer(nn.Module):
    """Long short-term memory (or gated recurrent units) in one or two directions.

    Args:
        weight_dropout: share of the recurrent weights dropped in training, the same ones at every step.

    Shapes:
        inputs: (B, T, I), lengths: (B,) int64 in 1…T → outputs: (B, T, D·H), D = 2 if bidirectional else 1;
        outputs past a row's length are undefined.

    Source: Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000; GRU: Cho et al. 2014; weight dropout:
        Merity et al. 2018.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bidirectional: bool,
        cell: str = "lstm",
        weight_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.cell = cell
        self.weight_dropout = weight_dropout
        self.directions = nn.ModuleList(
            CELLS[cell](input_size, hidden_size, batch_first=True) for _ in range(2 if bidirectional else 1)
        )
        for direction in self.directions:
            self._initialise(direction)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Run the layer; see the class for shapes."""
        forward = self._run(self.directions[0], inputs)  # (B, T, H)
        if len(self.directions) == 1:
            return forward
        reversal = _reversal(lengths, inputs.shape[1])  # (B·T,)
        backward = self._run(self.directions[1], _reordered(inputs, reversal))  # (B, T, H)
        return torch.cat([forward, _reordered(backward, reversal)], dim=2)  # (B, T, 2H)

    def _run(self, direction: nn.Module, inputs: Tensor) -> Tensor:
        if not (self.training and self.weight_dropout):
            return direction(inputs)[0]  # type: ignore[no-any-return]
        dropped = {"weight_hh_l0": functional.dropout(direction.get_parameter("weight_hh_l0"), self.weight_dropout)}
        outputs: Tensor = torch.func.functional_call(direction, dropped, (inputs,))[0]
        return outputs

    def _initialise(self, direction: nn.Module) -> None:
        """Glorot input weights, orthogonal recurrent weights gate by gate, forget gates open, other biases zero.

        An orthogonal recurrence keeps the norm of what flows through it (Saxe et al. 2014); an open forget gate lets
        the cell remember from the first step on (Jozefowicz et al. 2015).
        """
        by_gate = {name: value.data.chunk(GATES[self.cell]) for name, value in direction.named_parameters()}
        for gate in range(GATES[self.cell]):
            nn.init.xavier_uniform_(by_gate["weight_ih_l0"][gate])
            nn.init.orthogonal_(by_gate["weight_hh_l0"][gate])
            nn.init.constant_(by_gate["bias_ih_l0"][gate], float(self.cell == "lstm" and gate == FORGET))
            nn.init.zeros_(by_gate["bias_hh_l0"][gate])


class OnnxRecurrentLayer(nn.Module):
    """The same layer as one ``LSTM`` or ``GRU`` node; it can only be exported, not run.

    Shapes: as `RecurrentLayer`.

    Source: ONNX operators LSTM and GRU, opset 14; ``layout = 0``, the only one that ONNX Runtime's CPU kernel takes.
    """

    W: Tensor
    R: Tensor
    B: Tensor

    def __init__(self, layer: RecurrentLayer) -> None:
        super().__init__()
        self.hidden_size = layer.hidden_size
        self.cell = layer.cell
        directions = [dict(direction.named_parameters()) for direction in layer.directions]

        def stacked(name: str) -> Tensor:
            return torch.stack([_in_onnx_order(direction[name], self.cell) for direction in directions])

        self.register_buffer("W", stacked("weight_ih_l0"))  # (D, G·H, I), G gates
        self.register_buffer("R", stacked("weight_hh_l0"))  # (D, G·H, H)
        self.register_buffer("B", torch.cat([stacked("bias_ih_l0"), stacked("bias_hh_l0")], dim=1))  # (D, 2·G·H)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Emit the node; see `RecurrentLayer` for shapes."""
        B, T, _ = inputs.shape
        D, H = self.W.shape[0], self.hidden_size
        attributes: dict[str, Any] = {"hidden_size": H, "direction": "bidirectional" if D == 2 else "forward"}
        if self.cell == "gru":
            attributes["linear_before_reset"] = 1  # PyTorch resets after the product with the recurrent weights
        outputs = torch.onnx.ops.symbolic(
            self.cell.upper(),
            (inputs.transpose(0, 1), self.W, self.R, self.B, lengths.to(torch.int32)),
            attrs=attributes,
            dtype=inputs.dtype,
            shape=(T, D, B, H),
            version=20,
        )
        return outputs.permute(2, 0, 1, 3).reshape(B, T, D * H)


def _in_onnx_order(stacked: Tensor, cell: str) -> Tensor:
    """Reorder the gates stacked along the first axis from PyTorch's order to ONNX's."""
    gates = stacked.detach().chunk(GATES[cell])
    return torch.cat([gates[gate] for gate in ONNX_GATES[cell]])


def _reversal(lengths: Tensor, T: int) -> Tensor:
    """Return where each of B·T steps goes when each row is reversed within its length; its padding stays."""
    steps = torch.arange(T, device=lengths.device)
    reverse = lengths[:, None] - 1 - steps
    rows = torch.arange(len(lengths), device=lengths.device)[:, None] * T
    return (rows + torch.where(reverse >= 0, reverse, steps)).flatten()


def _reordered(values: Tensor, reversal: Tensor) -> Tensor:
    return _Reorder.apply(values, reversal)  # type: ignore[no-any-return, no-untyped-call]


class _Reorder(torch.autograd.Function):
    """Reorder the steps of (B, T, F) by a reversal, which is its own inverse: the gradient takes the same way back.

    What autograd would do instead, adding into zeros at the reordered places, is several times slower.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, reversal: Tensor) -> Tensor:
        ctx.save_for_backward(reversal)
        return values.flatten(0, 1).index_select(0, reversal).view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (reversal,) = ctx.saved_tensors
        return gradient.flatten(0, 1).index_select(0, reversal).view_as(gradient), None

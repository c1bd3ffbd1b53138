"""One LSTM layer over right-padded batches, in two forms that give the same numbers.

`LSTMLayer` is trained: its backward direction reads each row reversed within its own length, so no step of padding
ever enters a state that is used, and no packing slows it down. `OnnxLSTM` is exported: one ONNX ``LSTM`` node with
``sequence_lens``, its weights already in ONNX's order.
"""

import torch
from torch import Tensor, nn

FORGET = 1  # PyTorch stacks the gates as input, forget, cell, output
ONNX_GATES = (0, 3, 1, 2)  # ONNX as input, output, forget, cell


class LSTMLayer(nn.Module):
    """Long short-term memory in one or two directions.

    Shapes:
        inputs: (B, T, I), lengths: (B,) int64 in 1…T → outputs: (B, T, D·H), D = 2 if bidirectional else 1;
        outputs past a row's length are undefined.

    Source: Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000.
    """

    def __init__(self, input_size: int, hidden_size: int, *, bidirectional: bool) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.directions = nn.ModuleList(
            nn.LSTM(input_size, hidden_size, batch_first=True) for _ in range(2 if bidirectional else 1)
        )
        for direction in self.directions:
            self._initialise(direction)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Run the layer; see the class for shapes."""
        forward = self.directions[0](inputs)[0]  # (B, T, H)
        if len(self.directions) == 1:
            return forward  # type: ignore[no-any-return]
        reversal = _reversal(lengths, inputs.shape[1])  # (B, T)
        backward = self.directions[1](_reorder(inputs, reversal))[0]  # (B, T, H)
        return torch.cat([forward, _reorder(backward, reversal)], dim=2)  # (B, T, 2H)

    def _initialise(self, direction: nn.Module) -> None:
        """Glorot input weights, orthogonal recurrent weights gate by gate, forget gates open, other biases zero.

        An orthogonal recurrence keeps the norm of what flows through it (Saxe et al. 2014); an open forget gate lets
        the cell remember from the first step on (Jozefowicz et al. 2015).
        """
        by_gate = {name: value.data.chunk(4) for name, value in direction.named_parameters()}
        for gate in range(4):
            nn.init.xavier_uniform_(by_gate["weight_ih_l0"][gate])
            nn.init.orthogonal_(by_gate["weight_hh_l0"][gate])
            nn.init.constant_(by_gate["bias_ih_l0"][gate], float(gate == FORGET))
            nn.init.zeros_(by_gate["bias_hh_l0"][gate])


class OnnxLSTM(nn.Module):
    """The same layer as one ``LSTM`` node; it can only be exported, not run.

    Shapes: as `LSTMLayer`.

    Source: ONNX operator LSTM, opset 14; ``layout = 0``, the only one that ONNX Runtime's CPU kernel takes.
    """

    W: Tensor
    R: Tensor
    B: Tensor

    def __init__(self, layer: LSTMLayer) -> None:
        super().__init__()
        self.hidden_size = layer.hidden_size
        directions = [dict(direction.named_parameters()) for direction in layer.directions]
        self.register_buffer("W", torch.stack([_in_onnx_order(d["weight_ih_l0"]) for d in directions]))  # (D, 4H, I)
        self.register_buffer("R", torch.stack([_in_onnx_order(d["weight_hh_l0"]) for d in directions]))  # (D, 4H, H)
        biases = [torch.cat([_in_onnx_order(d["bias_ih_l0"]), _in_onnx_order(d["bias_hh_l0"])]) for d in directions]
        self.register_buffer("B", torch.stack(biases))  # (D, 8H)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Emit the node; see `LSTMLayer` for shapes."""
        B, T, _ = inputs.shape
        D, H = self.W.shape[0], self.hidden_size
        outputs = torch.onnx.ops.symbolic(
            "LSTM",
            (inputs.transpose(0, 1), self.W, self.R, self.B, lengths.to(torch.int32)),
            attrs={"hidden_size": H, "direction": "bidirectional" if D == 2 else "forward"},
            dtype=inputs.dtype,
            shape=(T, D, B, H),
            version=20,
        )
        return outputs.permute(2, 0, 1, 3).reshape(B, T, D * H)


def _in_onnx_order(stacked: Tensor) -> Tensor:
    """Reorder the gates stacked along the first axis from PyTorch's order to ONNX's."""
    gates = stacked.detach().chunk(4)
    return torch.cat([gates[gate] for gate in ONNX_GATES])


def _reversal(lengths: Tensor, T: int) -> Tensor:
    """Return (B, T) indices that reverse each row within its length and leave its padding where it is."""
    steps = torch.arange(T, device=lengths.device)
    reverse = lengths[:, None] - 1 - steps
    return torch.where(reverse >= 0, reverse, steps)


def _reorder(values: Tensor, indices: Tensor) -> Tensor:
    """Take, in each row of (B, T, F), the steps (B, T) names."""
    return values.gather(1, indices[:, :, None].expand_as(values))

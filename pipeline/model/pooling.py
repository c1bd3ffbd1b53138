"""Steps to one vector, by length and never by position from the end."""

import torch
from torch import Tensor, nn


class Pooling(nn.Module):
    """Pool the valid steps; several kinds are concatenated.

    Shapes:
        steps: (B, T, D·H), lengths: (B,), is_valid: (B, T, 1) → (B, K·D·H), K kinds.

    Source: attention: Yang et al. 2016, Hierarchical Attention Networks, equations 5-7.
    """

    def __init__(self, kinds: str, hidden_size: int, width: int) -> None:
        super().__init__()
        self.kinds = kinds.split("+")
        self.hidden_size = hidden_size
        self.width = width * len(self.kinds)
        if "attention" in self.kinds:
            self.key = nn.Linear(width, width)
            self.query = nn.Linear(width, 1, bias=False)

    def forward(self, steps: Tensor, lengths: Tensor, is_valid: Tensor) -> Tensor:
        """Pool; see the class for shapes. Where, not multiplication: past a row's length there may be NaN."""
        pooled = {
            "max": lambda: torch.where(is_valid, steps, -torch.inf).amax(1),
            "mean": lambda: torch.where(is_valid, steps, 0.0).sum(1) / lengths[:, None],
            "last": lambda: self._last(steps, lengths),
            "attention": lambda: self._attention(torch.where(is_valid, steps, 0.0), is_valid),
        }
        return torch.cat([pooled[kind]() for kind in self.kinds], dim=1)

    def _last(self, steps: Tensor, lengths: Tensor) -> Tensor:
        """Take each direction's final state: forward at the last valid step, backward at the first."""
        H = self.hidden_size
        index = (lengths - 1)[:, None, None].expand(-1, 1, H)
        forward = steps[:, :, :H].gather(1, index)[:, 0]  # (B, H)
        return torch.cat([forward, steps[:, 0, H:]], dim=1)

    def _attention(self, steps: Tensor, is_valid: Tensor) -> Tensor:
        """Weigh the valid steps by how well they answer one learned query."""
        scores = torch.where(is_valid, self.query(torch.tanh(self.key(steps))), -torch.inf)  # (B, T, 1)
        return (torch.softmax(scores, dim=1) * steps).sum(1)

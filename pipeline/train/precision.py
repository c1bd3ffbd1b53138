"""Which arithmetic the forward pass of training uses."""

import torch

from pipeline.recipe import TrainKeys


def is_bfloat16(keys: TrainKeys, device: torch.device) -> bool:
    """Tell whether to train in bfloat16: as the recipe says, or where the processor has instructions for it."""
    if keys.precision != "auto":
        return keys.precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def autocast(device: torch.device, *, is_bfloat16: bool) -> torch.autocast:
    """Return the context of a forward pass; weights, gradients and optimiser stay in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=is_bfloat16)

"""In which precision a dream multiplies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

# From so many dreams on, a step in bfloat16 takes less time than in float32 where the processor has units for it.
_BFLOAT16_ROWS = 256


def faster_precision(rows: int, device: torch.device) -> str:
    """ "bfloat16" for many dreams on a processor with matrix units for it (AMX), else "float32"."""
    if device.type != "cpu" or rows < _BFLOAT16_ROWS:
        return "float32"
    # Older versions of torch cannot tell
    capabilities: Mapping[str, Any] = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return "bfloat16" if capabilities.get("amx_bf16") else "float32"

"""Memory that a stepper keeps from step to step: the system takes its time to hand out fresh pages."""

from __future__ import annotations

import torch
from torch import Tensor


class Scratch:
    """Named matrices that are written anew at each step, and products into them.

    Args:
        dtype: Of the products.
        device: Of all of it.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype = dtype
        self._device = device
        self._kept: dict[str, Tensor] = {}

    def of(self, name: str, rows: int, columns: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """`[rows, columns]` of memory that is kept.

        Rows begin at multiples of 64 bytes, from which products in bfloat16 are a third faster. The columns between are
        zero: kernels for an odd number of columns multiply the one behind it too, by zero, which a NaN would survive.
        """
        kept = self._kept.get(name)
        if kept is None or len(kept) < rows or kept.is_inference() != torch.is_inference_mode_enabled():
            stride = -(-columns // 32) * 32
            memory = torch.zeros(rows, stride, dtype=dtype, device=self._device)
            kept = self._kept[name] = memory[:, :columns]
        return kept if len(kept) == rows else kept[:rows]

    def narrow(self, name: str, values: Tensor) -> Tensor:
        """`values` in the precision of the products."""
        if values.dtype == self.dtype:
            return values
        return self.of(name, values.shape[0], values.shape[1], self.dtype).copy_(values)

    def product(self, name: str, left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
        """`left @ right`, as `dtype`."""
        left = self.narrow(f"{name} left", left)
        product = torch.mm(left, right, out=self.of(f"{name} product", len(left), right.shape[1], self.dtype))
        return product if product.dtype == dtype else self.of(name, len(left), right.shape[1], dtype).copy_(product)

"""Attention to many equal tokens at the cost of one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch.overrides import TorchFunctionMode


class RepeatedToken(TorchFunctionMode):
    """Attention as if the last token occurred several times, at the cost of one.

    Equal tokens without positions stay equal in every layer, so n of them act as one whose attention logit is larger
    by log n. Training with the pipeline's tokens of zeros would take four times as long. The attention is written out,
    because the CPU's fused one has a slow backward pass.

    Args:
        count: n.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replaces the attention of every layer."""
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, key, value = args
        logits = query @ key.mT / math.sqrt(query.shape[-1])
        bias = logits.new_zeros(logits.shape[-1])
        bias[-1] = math.log(self.count)
        return (logits + bias).softmax(-1) @ value

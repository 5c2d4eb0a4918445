"""What a diffusers pipeline in memory is, so that tests can compare it before and after."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import nn

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def state(pipeline: DiffusionPipeline) -> dict[str, Any]:
    """Returns all that could be changed by accident, by name."""
    scheduler = pipeline.scheduler
    found: dict[str, Any] = {
        "pipeline": {name: value for name, value in pipeline.config.items() if not name.startswith("_")},
        "parts": {name: id(part) for name, part in pipeline.components.items()},
        "scheduler": (dict(scheduler.config), scheduler.num_inference_steps, scheduler.timesteps.tolist()),
        "processors": {name: id(each) for name, each in pipeline.unet.attn_processors.items()},
    }
    for part, network in pipeline.components.items():
        if isinstance(network, nn.Module):
            for name, module in network.named_modules():
                found[f"{part}.{name} module"] = (module.training, [len(getattr(module, hooks)) for hooks in HOOKS])
            for name, weight in [*network.named_parameters(), *network.named_buffers()]:
                found[f"{part}.{name}"] = (id(weight), weight.requires_grad, weight.grad, *_contents(weight))
    return found


def _contents(tensor: torch.Tensor) -> tuple[Any, ...]:
    return tensor.dtype, tensor.device, tensor.stride(), tensor.double().sum().item()

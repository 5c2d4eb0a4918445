"""Saves memory or time by features of diffusers: off-loading, tiling, storage in 8 bits, compiling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from renoise.errors import InputError

if TYPE_CHECKING:
    from renoise.models.base import DiffusionModel

Offload = Literal["none", "model", "sequential", "group"]
"""Where weights wait: all on the device; whole networks on the CPU; layers on the CPU; layers, loaded ahead."""

SHARES_MEMORY = ("cpu", "mps")
"""Types of devices that have no memory of their own, which off-loading could save."""


@dataclass(frozen=True)
class MemoryOptions:
    """How a model is kept in memory and computed. docs/memory.md says what each option saves and costs.

    Args:
        offload: Where the weights wait while they are not used. `none` keeps all on the device, `model` moves each
            network there while it runs, `sequential` and `group` each layer; `group` loads the next layer meanwhile.
        vae_tiling: Whether the autoencoder works image by image and, above its own size, tile by tile.
        attention_slicing: Whether attention is computed for some of the heads at a time.
        layerwise_casting: Whether the network's weights are stored in 8 bits (float8_e4m3fn) and cast as they are used.
        channels_last: Whether the network's convolutions use the memory format channels_last.
        gradient_checkpointing: Whether editors that need gradients compute activations twice instead of storing them.
        compile: Whether the network's transformer blocks are compiled by `torch.compile`. Each new size of images is
            compiled once.

    Raises:
        InputError: `offload` is none of these values.
    """

    offload: Offload = "none"
    vae_tiling: bool = False
    attention_slicing: bool = False
    layerwise_casting: bool = False
    channels_last: bool = False
    gradient_checkpointing: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        if self.offload not in get_args(Offload):
            raise InputError(f"offload must be one of {', '.join(get_args(Offload))}, got {self.offload!r}")

    def apply(self, model: DiffusionModel, device: torch.device) -> None:
        """Puts a model on a device in the way that the options say.

        Raises:
            InputError: The device or the network does not have what an option needs.
        """
        pipeline: Any = model.pipeline
        network: Any = model.network
        switches: Mapping[str, Callable[[], object]] = {
            "vae_tiling": lambda: (pipeline.vae.enable_slicing(), pipeline.vae.enable_tiling()),
            "attention_slicing": lambda: pipeline.enable_attention_slicing(),
            "layerwise_casting": lambda: network.enable_layerwise_casting(torch.float8_e4m3fn, model.dtype),
            "channels_last": lambda: network.to(memory_format=torch.channels_last),
            "gradient_checkpointing": lambda: network.enable_gradient_checkpointing(),
            "compile": lambda: network.compile_repeated_blocks(),
        }
        for name, switch in switches.items():
            if getattr(self, name):
                try:
                    switch()
                except (AttributeError, NotImplementedError, ValueError) as error:
                    raise InputError(f"{name}: the model does not have it ({error})") from error
        _place(self.offload, model, device)
        model.movable = self.offload == "none" and not self.layerwise_casting
        model.differentiable = self.offload != "group"


def _place(offload: Offload, model: DiffusionModel, device: torch.device) -> None:
    """Moves a model to a device, or has its weights wait on the CPU."""
    pipeline = model.pipeline
    if offload == "none":
        model.to(device)
        return
    if device.type in SHARES_MEMORY:
        raise InputError(f"offload must be none on the {device.type}, which has no memory of its own, got {offload}")
    if pipeline.vae.dtype == torch.float16 and pipeline.vae.config.get("force_upcast"):
        pipeline.vae.float()  # now, because hooks of off-loading keep the weights as they find them
    if offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.enable_group_offload(device, offload_type="leaf_level", use_stream=device.type == "cuda")

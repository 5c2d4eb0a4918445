"""FLUX.1 and FLUX.2 klein of random weights, for tests that need no trained network."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
)
from tokenizers import pre_tokenizers
from torch import nn
from transformers import CLIPTextModel, Qwen2Tokenizer, Qwen3Config, Qwen3ForCausalLM, T5Config, T5EncoderModel

from helpers.stable_diffusion_3 import t5_tokenizer
from tiny_models.text_to_image import text_config
from tiny_models.vocabulary import build_tokenizer

AUTOENCODER: dict[str, Any] = {
    "block_out_channels": (8, 8),
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "norm_num_groups": 4,
    "latent_channels": 4,
}
TRANSFORMER: dict[str, Any] = {
    "in_channels": 16,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
}
CHAT = "{% for message in messages %}<|im_start|>{{ message.content }}<|im_end|>{% endfor %}<|im_start|>"


def random_flux(guidance_embeds: bool = True, **scheduler: Any) -> FluxPipeline:
    """Returns a pipeline with latents of 4 channels, each for 2 × 2 pixels: dev, or schnell without guidance."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer = build_tokenizer(16)
        t5 = T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, is_encoder_decoder=False)
        parts = {
            "transformer": FluxTransformer2DModel(
                **TRANSFORMER,
                joint_attention_dim=16,
                pooled_projection_dim=8,
                guidance_embeds=guidance_embeds,
                axes_dims_rope=(4, 6, 6),
            ),
            "vae": AutoencoderKL(**AUTOENCODER, scaling_factor=1.5, shift_factor=0.3),
            "text_encoder": CLIPTextModel(text_config(tokenizer, hidden_size=8)),
            "text_encoder_2": T5EncoderModel(t5),
        }
    return _finish(FluxPipeline, parts, scheduler, tokenizer=tokenizer, tokenizer_2=t5_tokenizer())


def random_klein(is_distilled: bool = False, **scheduler: Any) -> Flux2KleinPipeline:
    """Returns a pipeline with latents of 16 channels, each for 4 × 4 pixels: base, or distilled."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        qwen = Qwen3Config(
            vocab_size=300,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=27,
            num_attention_heads=1,
            num_key_value_heads=1,
            head_dim=8,
        )
        vae = AutoencoderKLFlux2(**AUTOENCODER)
        vae.bn.running_mean.copy_(torch.linspace(-0.5, 0.5, 16))
        vae.bn.running_var.copy_(torch.linspace(0.5, 2, 16))
        parts = {
            "transformer": Flux2Transformer2DModel(
                **TRANSFORMER,
                joint_attention_dim=24,
                timestep_guidance_channels=16,
                guidance_embeds=False,
                axes_dims_rope=(4, 4, 4, 4),
            ),
            "vae": vae,
            "text_encoder": Qwen3ForCausalLM(qwen),
        }
    return _finish(Flux2KleinPipeline, parts, scheduler, tokenizer=_qwen_tokenizer(), is_distilled=is_distilled)


def _finish(kind: Any, networks: dict[str, nn.Module], scheduler: dict[str, Any], **parts: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for weight in networks["transformer"].parameters():
            weight.data += 0.05 * torch.randn_like(weight)  # with the initial weights, the prompt has no effect
    for network in networks.values():
        network.eval()
    options = {
        "shift": 3.0,
        "use_dynamic_shifting": True,
        "base_image_seq_len": 8,
        "max_image_seq_len": 1024,
    } | scheduler
    pipeline = kind(**networks, **parts, scheduler=FlowMatchEulerDiscreteScheduler(**options))
    pipeline.default_sample_size = 8
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _qwen_tokenizer() -> Qwen2Tokenizer:
    """Returns a tokenizer with one token for each byte."""
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Qwen2Tokenizer(vocab={piece: index for index, piece in enumerate(pieces)}, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHAT
    return tokenizer

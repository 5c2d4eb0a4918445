"""A Stable Diffusion 3 of random weights, with or without T5, for tests that need no trained network."""

from __future__ import annotations

import string

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import CLIPTextModelWithProjection, T5Config, T5EncoderModel, T5Tokenizer

from tiny_models.text_to_image import text_config
from tiny_models.vocabulary import build_tokenizer


def random_pipeline(t5: bool = False, shift: float = 3.0, stochastic: bool = False) -> StableDiffusion3Pipeline:
    """Returns a pipeline of 2 layers, 16 features, 8 × 8 latents of 4 channels, and CLIPs that take 16 tokens."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer = build_tokenizer(16)
        clips = [CLIPTextModelWithProjection(text_config(tokenizer, hidden_size=8)) for _ in range(2)]
        transformer = SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=16,
            caption_projection_dim=16,
            pooled_projection_dim=16,
            pos_embed_max_size=16,
            qk_norm="rms_norm",
        )
        for weight in transformer.parameters():
            weight.data += 0.05 * torch.randn_like(weight)  # with the initial weights, the prompt has no effect
        vae = AutoencoderKL(
            latent_channels=4,
            block_out_channels=(8, 8),
            down_block_types=["DownEncoderBlock2D"] * 2,
            up_block_types=["UpDecoderBlock2D"] * 2,
            norm_num_groups=4,
            scaling_factor=1.5,
            shift_factor=0.3,
        )
        t5_encoder = T5EncoderModel(
            T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, is_encoder_decoder=False)
        )
    pipeline = StableDiffusion3Pipeline(
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=shift, stochastic_sampling=stochastic),
        vae=vae.eval(),
        text_encoder=clips[0].eval(),
        tokenizer=tokenizer,
        text_encoder_2=clips[1].eval(),
        tokenizer_2=tokenizer,
        text_encoder_3=t5_encoder.eval() if t5 else None,
        tokenizer_3=t5_tokenizer() if t5 else None,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def t5_tokenizer() -> T5Tokenizer:
    """Returns a tokenizer with one token for each letter."""
    letters = [("▁", -2.0), *((letter, -3.0) for letter in string.ascii_lowercase)]
    return T5Tokenizer(
        vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *letters], extra_ids=0, model_max_length=512
    )

"""Trains the miniature BLIP-2 on scenes and their captions: ViT, QFormer and OPT together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch.utils.data import TensorDataset
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    BlipImageProcessor,
    OPTConfig,
)

from tiny_models.data import VALIDATION_SEED, InMemoryDataModule, to_pixels
from tiny_models.optimizer import one_cycle
from tiny_models.scenes import SIDE, TRAINING_SEED, Scene, random_scenes
from tiny_models.vocabulary import build_caption_tokenizer

PATCH_SIZE = 8
"""Side of the ViT's patches, in pixels."""
NUM_QUERY_TOKENS = 8
"""Number of tokens that stand for the image in the language model's input."""
MAX_LENGTH = 48
"""Longest input of the language model in tokens, those of the image included."""
IGNORE_INDEX = -100
"""Label of the tokens that the cross-entropy ignores."""


def build_processor() -> Blip2Processor:
    """Returns the processor that turns images into pixels, captions into token ids, and token ids into captions."""
    image_processor = BlipImageProcessor(size={"height": SIDE, "width": SIDE})
    return Blip2Processor(image_processor, build_caption_tokenizer(MAX_LENGTH), num_query_tokens=NUM_QUERY_TOKENS)


def build_network(processor: Blip2Processor, hidden_size: int) -> Blip2ForConditionalGeneration:
    """Returns a small BLIP-2 with random weights (arXiv 2301.12597). Its three networks have the same width."""
    tokenizer = processor.tokenizer
    sizes = {"hidden_size": hidden_size, "num_attention_heads": 4}
    network = Blip2ForConditionalGeneration(
        Blip2Config(
            vision_config=Blip2VisionConfig(
                **sizes,
                intermediate_size=2 * hidden_size,
                num_hidden_layers=4,
                image_size=SIDE,
                patch_size=PATCH_SIZE,
                initializer_range=0.02,  # the default, 1e-10, is for weights that are loaded afterwards
            ),
            qformer_config=Blip2QFormerConfig(
                **sizes,
                intermediate_size=2 * hidden_size,
                num_hidden_layers=2,
                vocab_size=len(tokenizer),
                max_position_embeddings=MAX_LENGTH,
                encoder_hidden_size=hidden_size,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            ),
            text_config=OPTConfig(
                **sizes,
                word_embed_proj_dim=hidden_size,
                ffn_dim=2 * hidden_size,
                num_hidden_layers=2,
                vocab_size=len(tokenizer),
                max_position_embeddings=MAX_LENGTH,
                dropout=0.0,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            ),
            num_query_tokens=NUM_QUERY_TOKENS,
            image_text_hidden_size=hidden_size,
            image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        )
    )
    torch.nn.init.normal_(network.query_tokens)  # queries of zeros would all stay equal
    return network


class CaptionedScenesDataModule(InMemoryDataModule):
    """Batches of (pixels uint8 [B, 3, 64, 64], token ids int64 [B, length]).

    The tokens are those of the image, the start token, the caption and the end token.

    Args:
        scenes: Number of training scenes.
        validation_scenes: Number of validation scenes.
        batch_size: Images per training step.
    """

    def __init__(self, scenes: int, validation_scenes: int = 256, batch_size: int = 64) -> None:
        super().__init__(batch_size)
        self.scenes = scenes
        self.validation_scenes = validation_scenes
        self.processor = build_processor()

    def setup(self, stage: str) -> None:
        """Draws all images and tokenizes their captions."""
        if stage == "fit":
            self.training_set = self._captioned(random_scenes(self.scenes, TRAINING_SEED))
            self.validation_set = self._captioned(random_scenes(self.validation_scenes, VALIDATION_SEED))

    def _captioned(self, scenes: list[Scene]) -> TensorDataset:
        tokenizer = self.processor.tokenizer
        start = self.processor.image_token.content * NUM_QUERY_TOKENS + tokenizer.bos_token
        texts = [f"{start}{scene.caption}{tokenizer.eos_token}" for scene in scenes]
        tokens = tokenizer(texts, padding=True, add_special_tokens=False, return_tensors="pt").input_ids
        return TensorDataset(to_pixels(scene.draw() for scene in scenes), tokens)


class CaptionerModule(L.LightningModule):
    """Trains a BLIP-2 to predict each token of a caption from the image and the tokens before it.

    Args:
        output: Folder for network and processor, in transformers layout.
        hidden_size: Width of all three networks.
        learning_rate: Peak of the one-cycle schedule.
    """

    def __init__(self, output: Path, hidden_size: int = 72, learning_rate: float = 2e-3) -> None:
        super().__init__()
        self.output = output
        self.learning_rate = learning_rate
        self.processor = build_processor()
        self.network = build_network(self.processor, hidden_size)

    def training_step(self, batch: tuple[torch.Tensor, ...], batch_index: int) -> torch.Tensor:
        """Returns the cross-entropy per token of the captions."""
        pixels, tokens = batch
        padding = tokens == self.processor.tokenizer.pad_token_id
        labels = tokens.masked_fill(padding, IGNORE_INDEX)
        labels[:, : NUM_QUERY_TOKENS + 1] = IGNORE_INDEX  # the image's tokens and the start token are given
        mask = (~padding).long()
        inputs = self._inputs(pixels)
        loss: torch.Tensor = self.network(**inputs, input_ids=tokens, attention_mask=mask, labels=labels).loss
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, ...], batch_index: int) -> None:
        """Logs the share of validation scenes whose caption is exactly right."""
        pixels, tokens = batch
        tokenizer = self.processor.tokenizer
        generated = self.network.generate(**self._inputs(pixels), max_new_tokens=MAX_LENGTH - NUM_QUERY_TOKENS - 1)
        captions = tokenizer.batch_decode(generated, skip_special_tokens=True)
        expected = tokenizer.batch_decode(tokens, skip_special_tokens=True)
        exact = sum(caption.strip() == text for caption, text in zip(captions, expected, strict=True))
        self.log("validation/exact_captions", exact / len(expected), prog_bar=True, batch_size=len(expected))

    def _inputs(self, pixels: torch.Tensor) -> dict[str, Any]:
        return dict(self.processor.image_processor(pixels, return_tensors="pt"))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Returns AdamW with a one-cycle learning rate."""
        return one_cycle(self, self.learning_rate)

    def on_fit_end(self) -> None:
        """Saves the network, in half precision, and its processor."""
        self.network.to(torch.float16).save_pretrained(self.output)
        self.processor.save_pretrained(self.output)

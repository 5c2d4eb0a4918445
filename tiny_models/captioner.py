"""Trains the miniature BLIP-2: ViT, QFormer and OPT together, on scenes and their captions."""

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
from tiny_models.scenes import TRAINING_SEED, Scene, random_scenes
from tiny_models.vocabulary import build_caption_tokenizer

SIDE, PATCH, QUERIES = 64, 8, 8
"""Pixels of an image and of a patch; tokens that an image becomes for the language model."""
LONGEST = 48
"""Tokens that the language model takes, those of the image included."""
IGNORED = -100
"""The label that the cross-entropy leaves out."""


def build_processor() -> Blip2Processor:
    """What makes pixels and token ids of images and captions, and captions of token ids."""
    image_processor = BlipImageProcessor(size={"height": SIDE, "width": SIDE})
    return Blip2Processor(image_processor, build_caption_tokenizer(LONGEST), num_query_tokens=QUERIES)


def build_network(processor: Blip2Processor, hidden_size: int) -> Blip2ForConditionalGeneration:
    """BLIP-2's three networks in small, each of the same width; see arXiv 2301.12597."""
    tokenizer = processor.tokenizer
    sizes = {"hidden_size": hidden_size, "num_attention_heads": 4}
    network = Blip2ForConditionalGeneration(
        Blip2Config(
            vision_config=Blip2VisionConfig(
                **sizes,
                intermediate_size=2 * hidden_size,
                num_hidden_layers=4,
                image_size=SIDE,
                patch_size=PATCH,
                initializer_range=0.02,  # transformers' own, 1e-10, is for weights that are loaded
            ),
            qformer_config=Blip2QFormerConfig(
                **sizes,
                intermediate_size=2 * hidden_size,
                num_hidden_layers=2,
                vocab_size=len(tokenizer),
                max_position_embeddings=LONGEST,
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
                max_position_embeddings=LONGEST,
                dropout=0.0,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            ),
            num_query_tokens=QUERIES,
            image_text_hidden_size=hidden_size,
            image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        )
    )
    torch.nn.init.normal_(network.query_tokens)  # all zeros, they would stay one and the same query
    return network


class CaptionedScenesDataModule(InMemoryDataModule):
    """Batches of (pixels uint8 [B, 3, 64, 64], token ids int64 [B, length]) of image, start, caption and end.

    Args:
        scenes: how many scenes to draw for training.
        validation_scenes: how many unseen scenes to judge by.
        batch_size: images per training step.
    """

    def __init__(self, scenes: int, validation_scenes: int = 256, batch_size: int = 64) -> None:
        super().__init__(batch_size)
        self.scenes, self.validation_scenes = scenes, validation_scenes
        self.processor = build_processor()

    def setup(self, stage: str) -> None:
        """Draws every picture."""
        if stage == "fit":
            self.training_set = self._captioned(random_scenes(self.scenes, TRAINING_SEED))
            self.validation_set = self._captioned(random_scenes(self.validation_scenes, VALIDATION_SEED))

    def _captioned(self, scenes: list[Scene]) -> TensorDataset:
        tokenizer = self.processor.tokenizer
        start = self.processor.image_token.content * QUERIES + tokenizer.bos_token
        texts = [f"{start}{scene.caption}{tokenizer.eos_token}" for scene in scenes]
        tokens = tokenizer(texts, padding=True, add_special_tokens=False, return_tensors="pt").input_ids
        return TensorDataset(to_pixels(scene.draw() for scene in scenes), tokens)


class CaptionerModule(L.LightningModule):
    """Cross-entropy of the captions' tokens, given the image and the tokens before.

    Args:
        output: folder that receives network and processor in transformers layout when the fit ends.
        hidden_size: width of all three networks.
        learning_rate: peak of the one-cycle schedule.
    """

    def __init__(self, output: Path, hidden_size: int = 72, learning_rate: float = 2e-3) -> None:
        super().__init__()
        self.output, self.learning_rate = output, learning_rate
        self.processor = build_processor()
        self.network = build_network(self.processor, hidden_size)

    def training_step(self, batch: tuple[torch.Tensor, ...], batch_index: int) -> torch.Tensor:
        """Cross-entropy per token."""
        pixels, tokens = batch
        padding = tokens == self.processor.tokenizer.pad_token_id
        labels = tokens.masked_fill(padding, IGNORED)
        labels[:, : QUERIES + 1] = IGNORED  # the image's tokens and the start, which is told
        mask = (~padding).long()
        inputs = self._inputs(pixels)
        loss: torch.Tensor = self.network(**inputs, input_ids=tokens, attention_mask=mask, labels=labels).loss
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, ...], batch_index: int) -> None:
        """Share of unseen scenes whose caption comes out word for word."""
        pixels, tokens = batch
        tokenizer = self.processor.tokenizer
        told = self.network.generate(**self._inputs(pixels), max_new_tokens=LONGEST - QUERIES - 1)
        captions = tokenizer.batch_decode(told, skip_special_tokens=True)
        truth = tokenizer.batch_decode(tokens, skip_special_tokens=True)
        exact = sum(caption.strip() == text for caption, text in zip(captions, truth, strict=True))
        self.log("validation/exact_captions", exact / len(truth), prog_bar=True, batch_size=len(truth))

    def _inputs(self, pixels: torch.Tensor) -> dict[str, Any]:
        return dict(self.processor.image_processor(pixels, return_tensors="pt"))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW under a one-cycle schedule over the whole run."""
        return one_cycle(self, self.learning_rate)

    def on_fit_end(self) -> None:
        """Writes the network in half precision, and the processor beside it."""
        self.network.to(torch.float16).save_pretrained(self.output)
        self.processor.save_pretrained(self.output)

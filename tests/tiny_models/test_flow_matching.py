from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers.stable_diffusion_3 import random_pipeline

from tiny_models.flow_matching import ShiftedLatentsDataModule
from tiny_models.repeated_token import RepeatedToken

COUNT = 40


@torch.no_grad()
def test_a_repeated_token_acts_as_so_many_equal_tokens() -> None:
    transformer = random_pipeline().transformer
    latents, text = torch.randn(2, 4, 8, 8), torch.randn(2, 5, 16)
    inputs = {"timestep": torch.tensor([900.0, 100.0]), "pooled_projections": torch.randn(2, 16), "return_dict": False}
    last = text[:, -1:]
    once = transformer(latents, text, **inputs)[0]
    expected = transformer(latents, torch.cat([text, last.expand(-1, COUNT - 1, -1)], dim=1), **inputs)[0]
    with RepeatedToken(COUNT):
        found = transformer(latents, text, **inputs)[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (once - expected).abs().max() > 1e-3
    query = torch.randn(1, 1, 3, 4)
    torch.testing.assert_close(  # outside of the block attention is the usual one
        F.scaled_dot_product_attention(query, query, query), (query @ query.mT / 2).softmax(-1) @ query
    )


def test_latents_are_encoded_once_with_mean_0_and_variance_1(
    tiny_sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def module() -> ShiftedLatentsDataModule:
        made = ShiftedLatentsDataModule(tiny_sd / "vae", tmp_path / "latents", scenes=48, validation_scenes=4)
        made.setup("fit")
        return made

    latents = torch.cat([latents for latents, _ in module().val_dataloader()])
    first = module().training_set[0]
    assert abs(float(torch.stack([module().training_set[i][0] for i in range(48)]).mean())) < 0.1
    assert latents.std() == pytest.approx(1, abs=0.15)
    monkeypatch.setattr(ShiftedLatentsDataModule, "autoencoder", lambda self: pytest.fail("encoded again"))
    for again, before in zip(module().training_set[0], first, strict=True):
        assert torch.equal(again, before)

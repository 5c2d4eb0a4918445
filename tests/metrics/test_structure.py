from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import ViTConfig, ViTModel

from renoise.errors import InputError
from renoise.metrics import EditComparison, StructureDistance, make_metrics

PATCH, HEADS, WIDTH = 16, 3, 24


def random_vit(folder: Path, layers: int = 12) -> str:
    """A DINO ViT with random weights, narrow but of the true architecture."""
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH,
        patch_size=PATCH,
    )
    network = ViTModel(config, add_pooling_layer=False)
    for parameter in network.parameters():  # the initial weights are so small that all images look alike
        torch.nn.init.normal_(parameter, std=0.1)
    network.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return random_vit(tmp_path_factory.mktemp("dino"))


@pytest.fixture(scope="module")
def images() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images, edits = F.interpolate(torch.rand(4, 3, 12, 12, generator=generator), 256, mode="bicubic").chunk(2)
    return images.clamp(0, 1), edits.clamp(0, 1)


def keys(network: ViTModel, pixels: torch.Tensor) -> torch.Tensor:
    """The keys of the last block's attention, as a ViT's definition has them, [heads, tokens, width of a head]."""

    def layer_norm(norm: nn.LayerNorm, tokens: torch.Tensor) -> torch.Tensor:
        variance, mean = torch.var_mean(tokens, dim=-1, keepdim=True, correction=0)
        return (tokens - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias

    def linear(layer: nn.Linear, tokens: torch.Tensor) -> torch.Tensor:
        return tokens @ layer.weight.T + layer.bias

    def heads(tokens: torch.Tensor) -> torch.Tensor:
        return tokens.reshape(len(tokens), HEADS, -1).transpose(0, 1)

    rows, columns = (side // PATCH for side in pixels.shape[1:])
    patches = pixels.reshape(3, rows, PATCH, columns, PATCH).permute(1, 3, 0, 2, 4).reshape(rows * columns, -1)
    projection = network.embeddings.patch_embeddings.projection
    tokens = patches @ projection.weight.flatten(1).T + projection.bias
    tokens = torch.cat([network.embeddings.cls_token[0], tokens]) + network.embeddings.position_embeddings[0]
    *blocks, last = network.layers if hasattr(network, "layers") else network.encoder.layer  # older transformers
    for block in blocks:
        query, key, value, out, up, down = (each for each in block.modules() if isinstance(each, nn.Linear))
        normed = layer_norm(block.layernorm_before, tokens)
        q, k, v = (heads(linear(layer, normed)) for layer in (query, key, value))
        attended = (q @ k.transpose(1, 2) / (WIDTH / HEADS) ** 0.5).softmax(dim=-1) @ v
        tokens = tokens + linear(out, attended.transpose(0, 1).reshape(len(tokens), WIDTH))
        tokens = tokens + linear(down, F.gelu(linear(up, layer_norm(block.layernorm_after, tokens))))
    _, key, *_ = (each for each in last.modules() if isinstance(each, nn.Linear))
    return heads(linear(key, layer_norm(last.layernorm_before, tokens)))


@torch.no_grad()
def oracle(checkpoint: str, images: torch.Tensor, targets: torch.Tensor) -> list[float]:
    """PnPInversion's structure distance of one pair after the other, with its own formula for the cosines."""
    network = ViTModel.from_pretrained(checkpoint, add_pooling_layer=False).eval()

    def similarity(image: torch.Tensor) -> torch.Tensor:
        resized = F.interpolate(255 * image[None], (224, 224), mode="bilinear", antialias=False)[0]
        mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
        vectors = keys(network, (resized - mean) / std).transpose(0, 1).flatten(1)
        norms = vectors.norm(dim=1, keepdim=True)
        return vectors @ vectors.T / (norms @ norms.T).clamp(min=1e-8)

    pairs = zip(images, targets, strict=True)
    return [float((similarity(image) - similarity(target)).square().mean()) for image, target in pairs]


def test_structure_distance_is_pnp_inversions(checkpoint: str, images: tuple[torch.Tensor, torch.Tensor]) -> None:
    expected = oracle(checkpoint, *images)
    assert StructureDistance(checkpoint).compare(*images).tolist() == pytest.approx(expected, rel=1e-3)
    assert min(expected) > 1e-4


def test_equal_images_have_distance_0(checkpoint: str, images: tuple[torch.Tensor, torch.Tensor]) -> None:
    comparison = EditComparison(images[0], images[0].clone(), ["a cat"] * 2, ["a cat"] * 2)
    assert StructureDistance(checkpoint)(comparison).tolist() == [0, 0]


def test_long_images_are_limited_to_480_pixels(checkpoint: str) -> None:
    metric = StructureDistance(checkpoint)
    shapes = []
    metric.vit.embeddings.register_forward_hook(lambda _, inputs, __: shapes.append(tuple(inputs[0].shape[2:])))
    metric.compare(torch.rand(1, 3, 100, 300), torch.rand(1, 3, 100, 300))
    assert shapes == [(160, 480)] * 2


def test_structure_distance_does_not_depend_on_the_precision_of_the_run(
    checkpoint: str, images: tuple[torch.Tensor, torch.Tensor]
) -> None:
    metric = StructureDistance(checkpoint)
    expected = metric.compare(*images)
    with torch.autocast("cpu", torch.bfloat16):
        assert metric.compare(*images).equal(expected)


def test_a_network_with_fewer_layers_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"needs the keys of layer 11, counted from 0; .* has 2 layers"):
        StructureDistance(random_vit(tmp_path, layers=2))


def test_weights_that_are_not_at_hand_are_an_error_that_says_what_to_download() -> None:
    with pytest.raises(InputError, match=r"metrics: facebook/dino-vitb8: .* run `hf download facebook/dino-vitb8`"):
        make_metrics(["structure_distance"])

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

from renoise.errors import InputError
from renoise.metrics import CLIPScore, CLIPScoreEdited, CLIPScoreSource, EditComparison, make_edit_metrics
from renoise.metrics.clip import load_clip

SIDE, TOKENS = 32, 16
MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
STD = np.array([0.26862954, 0.26130258, 0.27577711])
"""OpenAI's, of CLIP's images."""
PROMPTS = ["a red cat on grass", "a dog", "a photo of a blue fox"]
EDIT_PROMPTS = ["a green dog on grass", "a cat", "a painting of a blue fox"]


@pytest.fixture(scope="module")
def checkpoint(tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A CLIP with random weights, narrow but of the true architecture, and the vocabulary of a shipped model."""
    folder = str(tmp_path_factory.mktemp("clip"))
    tokenizer = CLIPTokenizer.from_pretrained(tiny_sd / "tokenizer")
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = CLIPConfig(
        text_config={**shape, **special, "vocab_size": len(tokenizer), "max_position_embeddings": TOKENS},
        vision_config={**shape, "image_size": SIDE, "patch_size": 8},
        projection_dim=16,
    )
    torch.manual_seed(3)
    network = CLIPModel(config)
    for parameter in network.parameters():  # the initial weights are so small that all images look alike
        torch.nn.init.normal_(parameter, std=0.2)
    network.save_pretrained(folder)
    processor = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    CLIPProcessor(processor, tokenizer).save_pretrained(folder)
    return folder


def comparison(height: int = SIDE, width: int = SIDE) -> EditComparison:
    generator = torch.Generator().manual_seed(0)
    images, edits = torch.rand(2, 3, 3, height, width, generator=generator)
    masks = torch.zeros(3, height, width, dtype=torch.bool)
    masks[0, :10, 5:20], masks[2] = True, True
    return EditComparison(images, edits, PROMPTS, EDIT_PROMPTS, masks)


@torch.no_grad()
def oracle(checkpoint: str, images: torch.Tensor, texts: list[str]) -> list[float]:
    """The score of one pair after the other: pixels by Pillow and NumPy, features by the two halves of the network."""
    network = CLIPModel.from_pretrained(checkpoint).eval()
    tokenizer = CLIPTokenizer.from_pretrained(checkpoint)
    scores = []
    for image, text in zip(images, texts, strict=True):
        array = (255 * image).round().to(torch.uint8).movedim(0, 2).numpy()
        height, width = array.shape[:2]
        scale = SIDE / min(height, width)
        picture = Image.fromarray(array).resize((int(width * scale), int(height * scale)), Image.Resampling.BICUBIC)
        left, top = (picture.width - SIDE) // 2, (picture.height - SIDE) // 2
        pixels = np.asarray(picture.crop((left, top, left + SIDE, top + SIDE))) / 255
        inputs = torch.from_numpy((pixels - MEAN) / STD).float().movedim(2, 0)[None]
        of_image = network.visual_projection(network.vision_model(inputs).pooler_output)[0].double()
        tokens = torch.tensor([tokenizer(text)["input_ids"]])
        of_text = network.text_projection(network.text_model(tokens).pooler_output)[0].double()
        scores.append(max(100 * float(of_image @ of_text / (of_image.norm() * of_text.norm())), 0))
    return scores


def test_clip_scores_are_those_of_image_and_text_alone(checkpoint: str) -> None:
    given = comparison()
    masked = given.edits * given.masks[:, None]  # type: ignore[index]
    source, whole = oracle(checkpoint, given.images, PROMPTS), oracle(checkpoint, given.edits, EDIT_PROMPTS)
    assert CLIPScoreSource(checkpoint)(given).tolist() == pytest.approx(source, abs=1e-3)
    assert CLIPScore(checkpoint)(given).tolist() == pytest.approx(whole, abs=1e-3)
    edited = CLIPScoreEdited(checkpoint)(given)
    first, _, third = oracle(checkpoint, masked, EDIT_PROMPTS)
    assert edited[[0, 2]].tolist() == pytest.approx([first, third], abs=1e-3)
    assert third == whole[2]  # the mask is full
    assert edited[1].isnan()  # and this one empty
    assert len({round(score, 2) for score in [*source, *whole, first]} - {0}) > 3


def test_images_are_resized_and_cropped_to_the_square_in_the_middle(checkpoint: str) -> None:
    given = comparison(48, 80)
    expected = oracle(checkpoint, given.edits, EDIT_PROMPTS)
    assert CLIPScore(checkpoint)(given).tolist() == pytest.approx(expected, abs=0.5)


def test_opposite_directions_score_0(checkpoint: str) -> None:
    given = comparison()
    clip = load_clip(checkpoint)
    scores = clip.score(given.edits, EDIT_PROMPTS)
    clip.network.text_projection.weight.data.neg_()
    negated = clip.score(given.edits, EDIT_PROMPTS)
    clip.network.text_projection.weight.data.neg_()
    assert (scores.minimum(negated) == 0).all()
    assert (scores.maximum(negated) > 0).all()


def test_long_prompts_are_cut(checkpoint: str) -> None:
    given = comparison()
    words = load_clip(checkpoint).score(given.edits, ["a cat " * 40] * 3)
    assert words.equal(load_clip(checkpoint).score(given.edits, ["a cat " * 50] * 3))


def test_the_three_scores_share_one_network(checkpoint: str) -> None:
    assert CLIPScore(checkpoint).clip is CLIPScoreEdited(checkpoint).clip is CLIPScoreSource(checkpoint).clip


def test_a_clip_that_is_not_at_hand_is_an_error_that_says_what_to_download() -> None:
    with pytest.raises(InputError) as caught:
        make_edit_metrics(["psnr", "clip_score"])
    message = str(caught.value)
    assert message.startswith("metrics: openai/clip-vit-large-patch14: no such file or folder here, not in the hub's")
    assert "run `hf download openai/clip-vit-large-patch14`" in message
    assert "\n" not in message


def test_another_model_is_an_error(tiny_sd: Path) -> None:
    with pytest.raises(InputError, match=r"metrics: .*text_encoder cannot be loaded as a CLIP: "):
        CLIPScore(str(tiny_sd / "text_encoder"))

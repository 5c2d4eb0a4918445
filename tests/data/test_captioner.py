from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import Blip2Processor

from benchmarks.shared.scenes import images_of
from renoise.data.captioner import Captioner, CaptionerConfig
from renoise.errors import InputError
from tiny_models.judge import JUDGE_SEED
from tiny_models.scenes import random_scenes

SCENES = random_scenes(6, JUDGE_SEED)


@pytest.fixture(scope="module")
def captioner(tiny_blip2: Path) -> Captioner:
    return Captioner(CaptionerConfig(str(tiny_blip2)))


def test_captions_do_not_depend_on_the_batch(captioner: Captioner) -> None:
    images = images_of(SCENES)
    together = captioner(images)
    assert together == [scene.caption for scene in SCENES]
    assert [captioner(image[None])[0] for image in images] == together


def test_the_network_gets_the_pixels_that_the_processor_makes_of_a_pil_image(
    captioner: Captioner, tiny_blip2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    generate = captioner.network.generate

    def record(pixels: torch.Tensor, **options: object) -> torch.Tensor:
        seen.append(pixels)
        return torch.as_tensor(generate(pixels, **options))

    monkeypatch.setattr(captioner.network, "generate", record)
    captioner(images_of(SCENES))
    processor = Blip2Processor.from_pretrained(tiny_blip2)
    expected = processor.image_processor([scene.draw() for scene in SCENES], return_tensors="pt").pixel_values
    torch.testing.assert_close(seen[0], expected, atol=1e-5, rtol=0)


def test_images_of_any_size_are_captioned(captioner: Captioner) -> None:
    large = torch.nn.functional.interpolate(images_of(SCENES), size=(192, 192), mode="bilinear")
    assert captioner(large) == [scene.caption for scene in SCENES]


def test_captions_have_at_most_max_new_tokens(tiny_blip2: Path) -> None:
    short = Captioner(CaptionerConfig(str(tiny_blip2), max_new_tokens=2))(images_of(SCENES))
    assert short == [" ".join(scene.caption.split()[:2]) for scene in SCENES]
    with pytest.raises(InputError, match="max_new_tokens must be 1 or more, got 0"):
        CaptionerConfig(str(tiny_blip2), max_new_tokens=0)


def test_an_offloaded_captioner_moves_to_the_cpu_after_every_batch(
    captioner: Captioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves: list[object] = []
    to = captioner.network.to
    monkeypatch.setattr(captioner.network, "to", lambda device: moves.append(device) or to(device))
    captioner(images_of(SCENES[:1]))
    assert moves == [torch.device("cpu")]
    monkeypatch.setattr(captioner, "is_offloaded", True)
    captioner(images_of(SCENES[:1]))
    assert moves[1:] == [torch.device("cpu"), "cpu"]


def without(path: Path, *keys: str) -> None:
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key not in keys}))


@pytest.fixture
def old_checkpoint(tmp_path: Path, tiny_blip2: Path) -> Path:
    """A BLIP-2 as they were saved before 11/2024: nothing in it names the token of the image."""
    old = Path(shutil.copytree(tiny_blip2, tmp_path / "old"))
    without(old / "config.json", "image_token_index")
    without(old / "processor_config.json", "num_query_tokens")
    without(old / "tokenizer_config.json", "image_token", "extra_special_tokens", "added_tokens_decoder")
    tokenizer = json.loads((old / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["content"] != "<image>"]
    (old / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "<image>" not in "".join(path.read_text() for path in old.glob("*.json"))
    return old


def test_a_checkpoint_from_before_11_2024_gives_the_same_captions(old_checkpoint: Path) -> None:
    assert Captioner(CaptionerConfig(str(old_checkpoint)))(images_of(SCENES)) == [scene.caption for scene in SCENES]


def test_a_vocabulary_without_a_place_for_the_image_is_one_line_at_load_time(old_checkpoint: Path) -> None:
    config = json.loads((old_checkpoint / "config.json").read_text())
    (old_checkpoint / "config.json").write_text(json.dumps(config | {"image_token_index": 376}))
    with pytest.raises(InputError, match=r"^data\.captioner\.checkpoint: .* number 376, and it has embeddings for 376"):
        Captioner(CaptionerConfig(str(old_checkpoint)))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (TypeError("'NoneType' object\ncannot"), r"cannot caption 6 images: TypeError: 'NoneType' object cannot$"),
        (torch.OutOfMemoryError("too much"), r"OutOfMemoryError: too much; lower data\.batch_size$"),
        (IndexError("index out of range in self"), r"IndexError: index out of range in self$"),
    ],
)
def test_whatever_the_network_raises_is_one_line(
    error: Exception, message: str, captioner: Captioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(captioner.network, "generate", fail)
    with pytest.raises(InputError, match=rf"^data\.captioner\.checkpoint: .*{message}"):
        captioner(images_of(SCENES))


def test_a_checkpoint_that_is_not_a_blip2_is_an_error(tmp_path: Path, tiny_sd: Path, tiny_blip2: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_blip2, damaged)
    (damaged / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"^data\.captioner\.checkpoint: \S+nowhere: no such file or folder here, "):
        Captioner(CaptionerConfig(str(tmp_path / "nowhere")))
    for checkpoint in (tiny_sd, tiny_sd / "text_encoder", damaged):
        with pytest.raises(InputError) as raised:
            Captioner(CaptionerConfig(str(checkpoint)))
        assert str(raised.value).startswith(f"data.captioner.checkpoint: {checkpoint} cannot be loaded as a BLIP-2: ")
        assert "\n" not in str(raised.value)

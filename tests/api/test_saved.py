from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import renoise
from renoise.errors import InputError

METHODS = {
    "deterministic": {"inversion": renoise.ReNoise(2)},
    "stochastic": {"inversion": renoise.ReNoise(1, noise_correction=renoise.NoiseCorrection()), "eta": 1.0},
    "direct": {"inversion": renoise.DirectInversion()},
    "null-text": {"inversion": renoise.NullTextInversion(), "guidance_scale": 2.0},
}


@pytest.mark.parametrize("arguments", METHODS.values(), ids=METHODS)
def test_an_inversion_is_the_same_after_it_was_saved_and_loaded(
    arguments: dict[str, Any], tiny_sd: Path, tmp_path: Path
) -> None:
    pipeline = renoise.load(tiny_sd, num_inference_steps=2, **arguments)
    saved = pipeline.invert(torch.rand(3, 32, 32), "a cat")
    saved.save(tmp_path / "cat.safetensors")
    for loaded in (
        renoise.load_inversion(tmp_path / "cat.safetensors"),
        renoise.load_inversion(tmp_path / "cat.safetensors", pipeline),
    ):
        assert (loaded.names, loaded.prompts) == (saved.names, saved.prompts)
        before, after = (renoise.sample(pipeline.model, each.inversion) for each in (saved, loaded))
        torch.testing.assert_close(after, before, rtol=0, atol=1e-5)
        assert loaded.edit("a dog")[0].size == (32, 32)


def test_a_file_of_a_run_can_be_loaded(
    tmp_path: Path, pictures: Callable[..., Path], predict: Callable[..., Any]
) -> None:
    assert predict(pictures(tmp_path / "photos", "a.png"), tmp_path / "out").status == 0
    (rebuilt,) = renoise.load_inversion(tmp_path / "out/inversions/a.png.safetensors").reconstruct()
    written = np.asarray(Image.open(tmp_path / "out/reconstructions/a.png.png"), dtype=float)
    assert np.abs(np.asarray(rebuilt, dtype=float) - written).max() <= 1


def test_a_file_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^path: .*none\.safetensors cannot be read: No such file"):
        renoise.load_inversion(tmp_path / "none.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"^path: .*damaged\.safetensors is damaged"):
        renoise.load_inversion(tmp_path / "damaged.safetensors")
    save_file({"latent": torch.zeros(4, 8, 8)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"other\.safetensors does not say its checkpoint"):
        renoise.load_inversion(tmp_path / "other.safetensors")

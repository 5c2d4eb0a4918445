from __future__ import annotations

import json
import struct
from unittest.mock import Mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from renoise.errors import InputError
from renoise.inversion.base import Inversion
from renoise.outputs.inversion_file import inversion_metadata, inversion_tensors, read_inversion, save_inversion

LATENTS = torch.arange(2 * 4 * 8 * 8, dtype=torch.float32).reshape(2, 4, 8, 8)
NOISE = LATENTS + 1
CONTENT = save_inversion({"latent": LATENTS[0], "noise": NOISE}, {"prompt": "a cat", "model": {"eta": 0.5}})


def per_step(steps: int, *shape: int) -> torch.Tensor:
    return torch.randn(steps, 2, *shape, generator=torch.Generator().manual_seed(steps))


def test_an_image_has_its_own_part_of_every_tensor() -> None:
    inversion = Inversion(LATENTS, Mock(), Mock())
    assert inversion_tensors(inversion, 1).keys() == {"latent"}
    inversion.noise, inversion.trajectory = per_step(3, 4, 8, 8), per_step(4, 4, 8, 8)
    inversion.null_embeddings, inversion.companion = per_step(3, 77, 32), per_step(1, 4, 8, 8)
    for position in range(2):
        tensors = inversion_tensors(inversion, position)
        assert torch.equal(tensors["latent"], LATENTS[position])
        assert torch.equal(tensors["noise"], inversion.noise[:, position])
        assert torch.equal(tensors["trajectory"], inversion.trajectory[:, position])
        assert torch.equal(tensors["null_embeddings"], inversion.null_embeddings[:, position])
        assert torch.equal(tensors["companion"], inversion.companion[:, position])
        assert all(tensor.is_contiguous() for tensor in tensors.values())


def test_tensors_of_an_inversion_that_share_memory_can_be_saved() -> None:
    trajectory = per_step(3, 4, 8, 8)[:, :1].contiguous()
    inversion = Inversion(trajectory[0], Mock(), Mock(), trajectory=trajectory)
    tensors, _ = read_inversion(save_inversion(inversion_tensors(inversion, 0), {}))
    assert torch.equal(tensors["latent"], trajectory[0, 0])
    assert torch.equal(tensors["trajectory"], trajectory[:, 0])


def test_metadata_are_the_settings_and_the_facts_of_the_image() -> None:
    settings = {"model": {"seed": 3}, "data": {"prompt": ""}}
    facts = {"file_name": "a.png", "prompt": "a cat", "time_ids": [32.0, 32, 0, 0, 32, 32], "follows_trajectory": True}
    assert inversion_metadata(settings, **facts, image_sha256="00") == settings | facts | {"image_sha256": "00"}
    assert inversion_metadata(settings, **facts) == settings | facts, "an image from memory has no file to hash"


@given(
    st.dictionaries(
        st.text().filter(lambda name: name.isprintable()),
        st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists),
    )
)
def test_tensors_and_metadata_are_read_as_they_were_saved(metadata: dict[str, object]) -> None:
    tensors, read = read_inversion(save_inversion({"latent": LATENTS[0], "noise": NOISE}, metadata))
    assert torch.equal(tensors["latent"], LATENTS[0])
    assert torch.equal(tensors["noise"], NOISE)
    assert read == metadata


def safetensors(header: object) -> bytes:
    """Returns a file with a header and two bytes of data."""
    content = json.dumps(header).encode()
    return struct.pack("<Q", len(content)) + content + b"ab"


def tensor(dtype: str, shape: list[int]) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, 2]}


@given(st.integers(0, len(CONTENT) - 1))
def test_a_file_that_is_cut_off_is_an_input_error(length: int) -> None:
    with pytest.raises(InputError, match="is damaged"):
        read_inversion(CONTENT[:length])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"<html>not found</html>", "is damaged"),
        (safetensors({"latent": tensor("F16", [1]), "__metadata__": {"prompt": "{"}}), "is damaged: Expecting"),
        (
            safetensors({"latent": tensor("F16", [1]), "__metadata__": {"prompt": "[" * 9999}}),
            "damaged: .*recursion",
        ),
        (safetensors({"latent": tensor("F4", [4])}), "has tensors of the type 'F4'"),
        (
            safetensors({"weight": tensor("F16", [1])}),
            "is no file of an inversion: it has no tensor `latent` of three dimensions",
        ),
        (
            safetensors({"latent": tensor("F16", [1])}),
            "is no file of an inversion: it has no tensor `latent` of three dimensions",
        ),
    ],
)
def test_a_file_that_is_not_an_inversion_is_an_input_error(content: bytes, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        read_inversion(content)

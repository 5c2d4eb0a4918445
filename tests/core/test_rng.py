from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from renoise.core.rng import ImageRNG


@given(images=st.lists(st.text(), min_size=1, max_size=5, unique=True), seed=st.integers(0, 2**40))
def test_the_numbers_of_an_image_do_not_depend_on_its_batch(images: list[str], seed: int) -> None:
    together = ImageRNG(seed, images).normal("noise", (2, 3))
    for image, numbers in zip(images, together, strict=True):
        assert torch.equal(ImageRNG(seed, [image]).normal("noise", (2, 3))[0], numbers)


def test_seeds_purposes_and_images_have_numbers_of_their_own() -> None:
    drawn = [
        ImageRNG(seed, [image]).normal(purpose, (8,))
        for seed in (0, 1)
        for purpose in ("noise", "shift")
        for image in ("a.png", "b.png")
    ]
    assert len({tuple(numbers.flatten().tolist()) for numbers in drawn}) == 8


def test_the_numbers_are_standard_normal() -> None:
    drawn = ImageRNG(0, [f"{number}.png" for number in range(100)]).normal("noise", (1000,))
    assert abs(float(drawn.mean())) < 0.01
    assert abs(float(drawn.std()) - 1) < 0.01


def test_the_numbers_do_not_depend_on_the_default_type() -> None:
    expected = ImageRNG(0, ["a.png"]).normal("noise", (4,))
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert torch.equal(ImageRNG(0, ["a.png"]).normal("noise", (4,)), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_name_that_is_not_valid_unicode_works() -> None:
    assert ImageRNG(0, ["\udcff.png"]).normal("noise", (1,)).isfinite().all()

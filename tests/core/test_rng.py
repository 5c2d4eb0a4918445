from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from renoise.core import rng


@given(images=st.lists(st.text(), min_size=1, max_size=5, unique=True), seed=st.integers(0, 2**40))
def test_an_images_numbers_do_not_depend_on_the_batch_it_sits_in(images: list[str], seed: int) -> None:
    together = rng.normal(seed, "noise", images, (2, 3))
    for image, numbers in zip(images, together, strict=True):
        assert torch.equal(rng.normal(seed, "noise", [image], (2, 3))[0], numbers)


def test_seeds_purposes_and_images_have_streams_of_their_own() -> None:
    drawn = [
        rng.normal(seed, purpose, [image], (8,))
        for seed in (0, 1)
        for purpose in ("noise", "shift")
        for image in ("a.png", "b.png")
    ]
    assert len({tuple(numbers.flatten().tolist()) for numbers in drawn}) == 8


def test_the_numbers_are_standard_normal() -> None:
    drawn = rng.normal(0, "noise", [f"{number}.png" for number in range(100)], (1000,))
    assert abs(float(drawn.mean())) < 0.01
    assert abs(float(drawn.std()) - 1) < 0.01


def test_the_numbers_do_not_depend_on_the_default_type() -> None:
    expected = rng.normal(0, "noise", ["a.png"], (4,))
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert torch.equal(rng.normal(0, "noise", ["a.png"], (4,)), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_name_that_is_no_unicode_has_a_stream_too() -> None:
    assert rng.normal(0, "noise", ["\udcff.png"], (1,)).isfinite().all()

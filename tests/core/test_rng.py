from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from renoise.core.rng import ImageRNG


def draw(rng: ImageRNG, kind: str, shape: tuple[int, ...]) -> torch.Tensor:
    return rng.normal("noise", shape) if kind == "normal" else rng.uniform("noise", shape)


kinds = pytest.mark.parametrize("kind", ["normal", "uniform"])


@kinds
@given(names=st.lists(st.text(), min_size=1, max_size=5, unique=True), seed=st.integers(0, 2**40))
def test_an_images_numbers_do_not_depend_on_its_batch(kind: str, names: list[str], seed: int) -> None:
    together = draw(ImageRNG(seed, names), kind, (2, 3))
    assert together.shape == (len(names), 2, 3)
    for name, numbers in zip(names, together, strict=True):
        assert torch.equal(draw(ImageRNG(seed, [name]), kind, (2, 3))[0], numbers)


def test_each_seed_purpose_and_image_has_its_own_numbers() -> None:
    drawn = [
        ImageRNG(seed, [name]).normal(purpose, (8,))
        for seed in (0, 1)
        for purpose in ("noise", "shift")
        for name in ("a.png", "b.png")
    ]
    assert len({tuple(numbers.flatten().tolist()) for numbers in drawn}) == 8


def test_select_keeps_the_numbers_of_the_selected_images() -> None:
    rng = ImageRNG(3, ["a.png", "b.png", "c.png"])
    assert torch.equal(rng.select([2, 0]).normal("noise", (4,)), rng.normal("noise", (4,))[[2, 0]])


def test_normal_numbers_are_standard_normal() -> None:
    drawn = ImageRNG(0, [f"{number}.png" for number in range(100)]).normal("noise", (1000,))
    assert abs(float(drawn.mean())) < 0.01
    assert abs(float(drawn.std()) - 1) < 0.01


def test_uniform_numbers_are_uniform_between_0_and_1() -> None:
    drawn = ImageRNG(0, [f"{number}.png" for number in range(100)]).uniform("shifts", (1000,))
    assert 0 <= float(drawn.min()) <= float(drawn.max()) < 1
    assert abs(float(drawn.mean()) - 1 / 2) < 0.01
    assert abs(float(drawn.var()) - 1 / 12) < 0.01


@kinds
def test_the_numbers_do_not_depend_on_the_default_dtype(kind: str) -> None:
    expected = draw(ImageRNG(0, ["a.png"]), kind, (4,))
    torch.set_default_dtype(torch.bfloat16)
    try:
        found = draw(ImageRNG(0, ["a.png"]), kind, (4,))
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


@kinds
def test_no_images_draw_an_empty_tensor(kind: str) -> None:
    assert draw(ImageRNG(0, []), kind, (4, 2)).shape == (0, 4, 2)


def test_a_name_that_is_not_valid_unicode_has_numbers_too() -> None:
    assert ImageRNG(0, ["\udcff.png"]).normal("noise", (1,)).isfinite().all()

"""The attention maps of the changed words, and the masks that local blend makes of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from renoise_plugins.prompt_to_prompt import word_maps
from renoise_plugins.prompt_to_prompt.local_blend import blend, blend_mask
from renoise_plugins.prompt_to_prompt.token_map import TokenMap
from renoise_plugins.prompt_to_prompt.word_maps import WordMaps


def changed_at(source: Sequence[int], target: Sequence[int], images: int = 1) -> TokenMap:
    """Returns token maps of three tokens that mark these tokens as changed."""
    single = TokenMap.empty(length=3)
    single.source_changed[source] = 1
    single.target_changed[target] = 1
    return TokenMap(*(field.expand(images, *field.shape) for field in single))


@pytest.mark.parametrize(
    ("finest", "expected"), [(255, 64), (256, 256), (63, 16), (3, 4)], ids=["fits", "all", "some", "else the coarsest"]
)
def test_word_maps_are_summed_over_the_layers_of_the_finest_resolution_that_is_small_enough(
    finest: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(word_maps, "FINEST_MAPS", finest)
    maps = WordMaps(changed_at(source=[0], target=[2]), (32, 32))
    generator = torch.Generator().manual_seed(4)
    resolutions = (256, 64, 16, 4, 16, 64, 256)  # down the UNet and up again
    layers = [torch.rand(2, 1, 5, positions, 3, generator=generator) for positions in resolutions]
    for source, target in layers:
        maps.add(source, target)
    used = [layer[:, 0].sum(dim=1) for layer in layers if layer.shape[3] == expected]
    sums = torch.stack([sum(layer[0, :, 0] for layer in used), sum(layer[1, :, 2] for layer in used)])
    side = int(expected**0.5)
    torch.testing.assert_close(maps.summed()[:, 0], sums.unflatten(1, (side, side)))


@pytest.mark.parametrize(
    ("size", "coarse"), [((16, 16), (4, 4)), ((9, 12), (5, 6)), ((24, 16), (6, 4)), ((65, 33), (9, 5))]
)
def test_the_mask_is_where_a_source_word_or_a_target_word_attends_to(
    size: tuple[int, int], coarse: tuple[int, int]
) -> None:
    maps = WordMaps(changed_at(source=[0], target=[2]), size)
    source, target = torch.zeros(2, 1, 1, coarse[0] * coarse[1], 3)
    source[..., 0, 0] = 1  # top left
    target[..., -1, 2] = 0.01  # bottom right, in a map that is weak everywhere
    maps.add(source, target)
    for factor in (1, 8):  # latents and pixels
        height, width = factor * size[0], factor * size[1]
        mask = blend_mask(maps, (height, width), 0.5)
        assert mask.shape == (1, 1, height, width)
        assert mask[0, 0, 0, 0]
        assert mask[0, 0, -1, -1]
        assert not mask[0, 0, 0, -1]
        assert not mask[0, 0, -1, 0]


def test_the_mask_is_empty_where_no_word_changes() -> None:
    maps = WordMaps(changed_at(source=[], target=[]), (8, 8))
    maps.add(*torch.rand(2, 1, 2, 16, 3))
    assert not blend_mask(maps, (8, 8), 0.3).any()


def test_a_blend_is_the_edit_inside_the_mask_and_the_image_outside() -> None:
    maps = WordMaps(changed_at(source=[0], target=[2], images=2), (4, 4))
    maps.add(*torch.rand(2, 2, 2, 16, 3, generator=torch.Generator().manual_seed(5)))
    blended = blend(maps, 0.5, source=torch.zeros(2, 3, 4, 4), edited=torch.ones(2, 3, 4, 4))
    assert blended.equal(blend_mask(maps, (4, 4), 0.5).float().expand(2, 3, 4, 4))
    assert 0 < blended.mean() < 1

from __future__ import annotations

import pytest
import torch
from renoise_plugins.prompt_to_prompt.attention_replacement import FINEST_SELF_ATTENTION, AttentionReplacement
from renoise_plugins.prompt_to_prompt.local_blend import blend_mask
from renoise_plugins.prompt_to_prompt.token_map import TokenMap
from renoise_plugins.prompt_to_prompt.word_maps import WordMaps


def random_tokens(images: int, length: int) -> TokenMap:
    generator = torch.Generator().manual_seed(1)
    return TokenMap(
        torch.rand(images, length, length, generator=generator),
        *(torch.rand(images, length, generator=generator).round() for _ in range(4)),
    )


def test_cross_attention_is_replaced_as_in_the_paper() -> None:
    tokens = random_tokens(2, 3)
    maps = torch.rand(8, 5, 4, 3, generator=torch.Generator().manual_seed(2)).softmax(dim=-1)
    control = AttentionReplacement(tokens, slice(2, 4))
    assert control.cross_attention(maps) is maps
    control.replaces_cross = True
    found = control.cross_attention(maps)
    assert found[:6].equal(maps[:6]), "only the conditional branch of the edits changes"
    for image in range(2):
        for token in range(3):
            own, from_source = maps[6 + image, :, :, token], torch.zeros(5, 4)
            for source_token in range(3):
                from_source += maps[2 + image, :, :, source_token] * tokens.mapper[image, source_token, token]
            expected = (from_source if tokens.mapped[image, token] == 1 else own) * tokens.weights[image, token]
            torch.testing.assert_close(found[6 + image, :, :, token], expected)


@pytest.mark.parametrize("mapped", [0.0, 1.0], ids=["own attention", "replaced attention"])
@pytest.mark.parametrize("weight", [2.0, 0.0, -1.0])
def test_the_mask_of_a_word_is_where_the_edits_own_map_attends_to_whatever_its_weight(
    weight: float, mapped: float
) -> None:
    tokens = TokenMap.empty(length=2)
    tokens.mapper[0, 1] = mapped  # the word takes the attention of source token 0
    tokens.mapped[1] = mapped
    tokens.weights[1] = weight
    tokens.target_changed[1] = 1
    batch = TokenMap(*(field[None] for field in tokens))
    maps = torch.full((2, 1, 4, 2), 0.5)
    maps[1, 0, :, 1] = torch.tensor([0.9, 0.1, 0.1, 0.1])  # the edit's word is at the top left
    record = WordMaps(batch, (2, 2))
    control = AttentionReplacement(batch, slice(0, 1), record)
    control.replaces_cross = True
    weighted = (0.5 if mapped else maps[1, :, :, 1]) * torch.tensor(weight)
    torch.testing.assert_close(control.cross_attention(maps)[1, :, :, 1], weighted.expand(1, 4))
    assert blend_mask(record, (2, 2), 0.3).tolist() == [[[[True, False], [False, False]]]]


def test_replaced_self_attention_has_the_maps_of_the_images_and_the_values_of_the_edits() -> None:
    query, key, value = torch.randn(3, 6, 2, 9, 4, generator=torch.Generator().manual_seed(3))
    control = AttentionReplacement(random_tokens(2, 3), slice(0, 2))
    assert control.self_attention(query, key) == (query, key)
    control.replaces_self = True
    new_query, new_key = control.self_attention(query, key)
    maps = (query @ key.mT / 2).softmax(dim=-1)
    found = torch.nn.functional.scaled_dot_product_attention(new_query, new_key, value)
    torch.testing.assert_close(found[:4], (maps @ value)[:4])
    torch.testing.assert_close(found[4:], maps[:2] @ value[4:])


def test_the_finest_self_attention_is_not_replaced() -> None:
    control = AttentionReplacement(random_tokens(1, 3), slice(0, 1))
    control.replaces_self = True
    query = torch.randn(2, 1, FINEST_SELF_ATTENTION + 1, 2)
    assert control.self_attention(query, query)[0] is query

"""The parts of prompt-to-prompt: words, tokens, maps and masks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from renoise_plugins.prompt_to_prompt import word_maps
from renoise_plugins.prompt_to_prompt.attention_replacement import (
    FINEST_SELF_ATTENTION,
    AttentionReplacement,
)
from renoise_plugins.prompt_to_prompt.local_blend import blend, blend_mask
from renoise_plugins.prompt_to_prompt.token_map import TokenMap, map_tokens
from renoise_plugins.prompt_to_prompt.word_maps import WordMaps
from renoise_plugins.word_alignment import alignment, replaced, words

from renoise.models.base import DiffusionModel

LENGTH = 32
some_words = st.lists(st.sampled_from(["a", "cat", "Dog", "red", "on", ",", "sofa", "k9", "it's"]), max_size=8)


def one(model: DiffusionModel, mode: str, source: str, new: str, **reweight: float) -> TokenMap:
    tokens = map_tokens(model, mode, reweight, [source], [new], LENGTH)
    return TokenMap(*(each[0] for each in tokens))


@given(some_words, some_words)
def test_an_alignment_covers_both_prompts_once_and_in_order(old: list[str], new: list[str]) -> None:
    source, target = " ".join(old), " ".join(new)
    found = alignment(source, target)
    assert [place for passage in found for place in passage.source] == list(range(len(words(source))))
    assert [place for passage in found for place in passage.target] == list(range(len(words(target))))
    for passage in found:
        texts = [
            [words(prompt)[place].text.lower() for place in places]
            for prompt, places in ((source, passage.source), (target, passage.target))
        ]
        assert (texts[0] == texts[1]) == passage.same


def test_what_gave_way_is_named_as_the_prompts_have_it() -> None:
    assert replaced("a Cat on a sofa, red", "a big dog on a sofa, Red") == [("Cat", "big dog")]
    assert replaced("a cat", "a cat with a hat") == []
    assert replaced("a red cat", "a cat") == []
    assert replaced("a red cat on grass", "a blue cat on snow") == [("red", "blue"), ("grass", "snow")]


def test_a_swap_of_words_with_as_many_tokens_maps_every_token_to_its_own_place(model: DiffusionModel) -> None:
    found = one(model, "swap", "a cat on a red background", "a dog on a red background")
    torch.testing.assert_close(found.source_to_new, torch.eye(LENGTH))
    assert found.share.eq(1).all()
    assert found.weights.eq(1).all()
    assert found.source_changed.nonzero().flatten().tolist() == [2]
    assert found.new_changed.nonzero().flatten().tolist() == [2]


def test_a_word_of_more_tokens_shares_the_attention_of_the_old_one_and_moves_the_rest_on(model: DiffusionModel) -> None:
    source, new = "a cat on a red background", "a zebra on a red background"
    pieces = len(model.token_spans("zebra"))
    assert pieces > 1, "the tokenizer of the world knows no zebra"
    found = one(model, "swap", source, new)
    young = range(2, 2 + pieces)
    torch.testing.assert_close(found.source_to_new[2, young], torch.full((pieces,), 1 / pieces))
    assert found.new_changed.nonzero().flatten().tolist() == list(young)
    end = 1 + len(model.token_spans(source))
    for token in [3, 4, 5, 6, end, end + 1]:
        assert found.source_to_new[token].nonzero().flatten().tolist() == [token + pieces - 1]
    assert found.share.eq(1).all()


def test_a_refinement_leaves_new_words_to_themselves(model: DiffusionModel) -> None:
    found = one(model, "refine", "a cat on a red background", "a striped cat on a red background")
    assert found.share.eq(0).nonzero().flatten().tolist() == [2]
    assert found.source_to_new[:, 2].eq(0).all()
    assert found.source_to_new[2].nonzero().flatten().tolist() == [3], "cat stands for cat"
    assert found.source_changed.eq(0).all()
    assert found.new_changed.nonzero().flatten().tolist() == [2]


def test_weights_fall_on_every_token_of_their_word_and_on_no_other(model: DiffusionModel) -> None:
    prompt = "a red cat on a Red background"
    found = one(model, "swap", prompt, prompt, red=3.0)
    assert found.weights.ne(1).nonzero().flatten().tolist() == [2, 6]
    assert found.weights[2] == 3
    assert found.new_changed.nonzero().flatten().tolist() == [2, 6]


@given(some_words, some_words, st.sampled_from(["swap", "refine"]))
def test_tokens_never_hand_out_more_than_they_have(
    model: DiffusionModel, old: list[str], new: list[str], mode: str
) -> None:
    source, target = " ".join(old), " ".join(new)
    if mode == "swap" and len(words(source)) != len(words(target)):
        mode = "refine"
    found = one(model, mode, source, target)
    assert found.source_to_new.sum(dim=1).max() <= 1 + 1e-6
    assert set(found.share.tolist()) <= {0.0, 1.0}
    taken = found.source_to_new.sum(dim=0) > 0
    torch.testing.assert_close(found.share.bool(), taken)


def test_words_that_the_encoder_cuts_off_map_to_nothing(model: DiffusionModel) -> None:
    long = " ".join(["cat"] * 40)
    found = one(model, "swap", f"{long} dog", f"{long} fox")
    torch.testing.assert_close(found.source_to_new, torch.eye(LENGTH))
    assert found.new_changed.eq(0).all()


def test_what_both_prompts_share_stays_token_for_token_where_one_of_them_is_cut_off(model: DiffusionModel) -> None:
    room = LENGTH - 2
    prompt = " ".join(["cat"] * room)
    found = one(model, "refine", prompt, f"striped {prompt}")
    for token in range(1, room):
        assert found.source_to_new[token].nonzero().flatten().tolist() == [token + 1]
    assert found.source_to_new[room].eq(0).all(), "the last one has nobody left to stand for"


def random_tokens(images: int, length: int) -> TokenMap:
    generator = torch.Generator().manual_seed(1)
    return TokenMap(
        torch.rand(images, length, length, generator=generator),
        *(torch.rand(images, length, generator=generator).round() for _ in range(4)),
    )


def test_cross_attention_is_taken_over_as_the_paper_writes_it() -> None:
    tokens = random_tokens(2, 3)
    maps = torch.rand(8, 5, 4, 3, generator=torch.Generator().manual_seed(2)).softmax(dim=-1)
    control = AttentionReplacement(tokens, slice(2, 4))
    assert control.cross_attention(maps) is maps
    control.replaces_cross = True
    found = control.cross_attention(maps)
    assert found[:6].equal(maps[:6]), "the images' rows and the unconditional ones stay"
    for image in range(2):
        for token in range(3):
            own, taken = maps[6 + image, :, :, token], torch.zeros(5, 4)
            for source_token in range(3):
                taken += maps[2 + image, :, :, source_token] * tokens.source_to_new[image, source_token, token]
            expected = (taken if tokens.share[image, token] == 1 else own) * tokens.weights[image, token]
            torch.testing.assert_close(found[6 + image, :, :, token], expected)


def test_self_attention_has_the_images_maps_over_the_edits_values() -> None:
    query, key, value = torch.randn(3, 6, 2, 9, 4, generator=torch.Generator().manual_seed(3))
    control = AttentionReplacement(random_tokens(2, 3), slice(0, 2))
    assert control.self_attention(query, key) == (query, key)
    control.replaces_self = True
    new_query, new_key = control.self_attention(query, key)
    maps = (query @ key.mT / 2).softmax(dim=-1)
    found = torch.nn.functional.scaled_dot_product_attention(new_query, new_key, value)
    torch.testing.assert_close(found[:4], (maps @ value)[:4])
    torch.testing.assert_close(found[4:], maps[:2] @ value[4:])


def test_the_finest_self_attention_is_left_alone() -> None:
    control = AttentionReplacement(random_tokens(1, 3), slice(0, 1))
    control.replaces_self = True
    query = torch.randn(2, 1, FINEST_SELF_ATTENTION + 1, 2)
    assert control.self_attention(query, query)[0] is query


def changed_at(images: int, source: int, new: int, length: int = 3) -> TokenMap:
    indicators = torch.zeros(2, images, length)
    indicators[0, :, source] = indicators[1, :, new] = 1
    return TokenMap(torch.zeros(images, length, length), *(torch.zeros(images, length) for _ in range(2)), *indicators)


@pytest.mark.parametrize(
    ("finest", "expected"), [(255, 64), (256, 256), (63, 16), (3, 4)], ids=["fits", "all", "some", "else the coarsest"]
)
def test_words_maps_are_summed_over_the_layers_of_the_finest_resolution_that_is_small_enough(
    finest: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(word_maps, "FINEST_MAPS", finest)
    maps = WordMaps(changed_at(1, source=0, new=2), (32, 32))
    generator = torch.Generator().manual_seed(4)
    order = (256, 64, 16, 4, 16, 64, 256)  # down the UNet and up again
    layers = [torch.rand(2, 1, 5, positions, 3, generator=generator) for positions in order]
    for source, edit in layers:
        maps.add(source, edit)
    taken = [layer[:, 0].sum(dim=1) for layer, positions in zip(layers, order, strict=True) if positions == expected]
    words = torch.stack([sum(layer[0, :, 0] for layer in taken), sum(layer[1, :, 2] for layer in taken)])
    side = int(expected**0.5)
    torch.testing.assert_close(maps.summed()[:, 0], words.unflatten(1, (side, side)))


@pytest.mark.parametrize(
    ("size", "coarse"), [((16, 16), (4, 4)), ((9, 12), (5, 6)), ((24, 16), (6, 4)), ((65, 33), (9, 5))]
)
def test_the_mask_is_where_either_word_is(size: tuple[int, int], coarse: tuple[int, int]) -> None:
    maps = WordMaps(changed_at(1, source=0, new=2), size)
    source, edit = torch.zeros(2, 1, 1, coarse[0] * coarse[1], 3)
    source[..., 0, 0] = 1  # the upper left corner
    edit[..., -1, 2] = 0.01  # the lower right one, in a map that is weak everywhere
    maps.add(source, edit)
    for finer in (1, 8):  # the latents, and the pixels above them
        mask = blend_mask(maps, (finer * size[0], finer * size[1]), 0.5)
        assert mask.shape == (1, 1, finer * size[0], finer * size[1])
        assert mask[0, 0, 0, 0]
        assert mask[0, 0, -1, -1]
        assert not mask[0, 0, 0, -1]
        assert not mask[0, 0, -1, 0]


def test_the_mask_of_words_that_are_nowhere_is_empty() -> None:
    tokens = changed_at(1, source=0, new=2)._replace(source_changed=torch.zeros(1, 3), new_changed=torch.zeros(1, 3))
    maps = WordMaps(tokens, (8, 8))
    maps.add(*torch.rand(2, 1, 2, 16, 3))
    assert not blend_mask(maps, (8, 8), 0.3).any()


def test_blended_is_the_edit_within_the_mask_and_the_image_outside() -> None:
    maps = WordMaps(changed_at(2, source=0, new=2), (4, 4))
    maps.add(*torch.rand(2, 2, 2, 16, 3, generator=torch.Generator().manual_seed(5)))
    source, edited = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    blended = blend(maps, 0.5, source, edited)
    assert blended.equal(blend_mask(maps, (4, 4), 0.5).float().expand(2, 3, 4, 4))
    assert 0 < blended.mean() < 1

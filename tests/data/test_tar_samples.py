from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from renoise.data.tar_samples import Samples, find_samples, is_image

TEXTS = (".json", ".txt")


def sorted_into(*names: str) -> Samples:
    return find_samples(names, TEXTS)


def texts(*names: str) -> dict[str, str | None]:
    """Returns the .txt member of each image."""
    return {image: found.get(".txt") for image, found in sorted_into(*names).texts.items()}


@pytest.mark.parametrize("stem", ["22.05", "IMG_2023.11.04", "Mr. Smith", "a", "v1.0/cat", "a.b/c.d e"])
def test_a_text_belongs_to_the_image_of_the_same_name_up_to_the_last_dot(stem: str) -> None:
    assert texts(f"{stem}.png", f"{stem}.txt", "z.jpg") == {f"{stem}.png": f"{stem}.txt", "z.jpg": None}


def test_dates_that_differ_after_their_first_dot_are_samples_of_their_own() -> None:
    names = ("22.05.png", "22.05.txt", "22.06.png", "22.06.txt", "22.07.png")
    assert texts(*names) == {"22.05.png": "22.05.txt", "22.06.png": "22.06.txt", "22.07.png": None}
    found = sorted_into("22.05.png", "22.06.txt", "22.txt")
    assert (found.texts, found.unused) == ({"22.05.png": {}}, ["22.06.txt", "22.txt"])


def test_fields_of_a_webdataset_sample_belong_together() -> None:
    assert texts("a.input.jpg", "a.outputs.txt") == {"a.input.jpg": "a.outputs.txt"}
    assert texts("a.left.png", "a.right.png", "a.txt") == {"a.left.png": "a.txt", "a.right.png": "a.txt"}
    assert texts("a.jpg", "a.PNG", "a.txt") == {"a.jpg": "a.txt", "a.PNG": "a.txt"}
    assert texts("a.jpg", "a.mask.png", "a.txt") == {"a.jpg": "a.txt", "a.mask.png": None}
    assert texts("a.input.jpg", "a.txt", "a.long.txt") == {"a.input.jpg": "a.txt"}


def test_members_need_not_be_neighbors() -> None:
    assert texts("a.png", "b.png", "a.txt", "b.txt") == {"a.png": "a.txt", "b.png": "b.txt"}


@pytest.mark.parametrize(
    ("names", "unused"),
    [
        (("a.png", "b.txt"), ["b.txt"]),
        (("a.png", "sub/a.txt"), ["sub/a.txt"]),
        (("a.input.jpg", "a.short.txt", "a.long.txt"), ["a.short.txt", "a.long.txt"]),
        (("a.left.png", "a.right.png", "a.both.txt"), ["a.both.txt"]),
        (("a.png", "a.txt", "a.TXT"), ["a.TXT"]),
        (("a.png", "../a.txt"), ["../a.txt"]),
    ],
)
def test_a_text_that_belongs_to_no_single_image_is_unused(names: tuple[str, ...], unused: list[str]) -> None:
    assert sorted_into(*names).unused == unused


def test_samples_of_several_images_are_listed() -> None:
    assert sorted_into("a.left.png", "b.png", "a.right.png", "22.1.png", "22.2.png").together == [
        ["a.left.png", "a.right.png"]
    ]


NAMES = st.from_regex(r"(\.\./|b/)?[aé12_](\.[a1 ]{0,2}){0,2}\.(png|JPG|txt|TXT|json|cls)", fullmatch=True)


@given(names=st.lists(NAMES, unique=True, max_size=12))
def test_every_image_is_found_and_every_text_is_used_or_listed_as_unused(names: list[str]) -> None:
    found = sorted_into(*names)
    assert list(found.texts) == [name for name in names if is_image(name)]
    assert [name for name in names if name.endswith((".png", ".JPG"))] == list(found.texts)
    used = {text for each in found.texts.values() for text in each.values()}
    assert used.isdisjoint(found.unused)
    assert len(set(found.unused)) == len(found.unused)
    assert used | set(found.unused) == {name for name in names if name.lower().endswith(TEXTS)}
    for image, each in found.texts.items():
        for suffix, text in each.items():
            assert text.lower().endswith(suffix)
            assert posixpath.dirname(text) == posixpath.dirname(image)

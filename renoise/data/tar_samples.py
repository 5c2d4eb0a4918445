"""Which texts belong to which images of an archive, by the names of its members."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from renoise.data.formats import picture_suffixes, suffixes


@dataclass
class Samples:
    """The members of an archive, sorted into samples.

    Args:
        texts: The members that belong to each image: from their suffix, such as ".json", to their name.
        together: The images of each sample that has several.
        unused: Names of texts that belong to no image, or of which an image has several.
    """

    texts: dict[str, dict[str, str]]
    together: list[list[str]]
    unused: list[str] = field(default_factory=list)


def is_image(name: str, known: frozenset[str] | None = None) -> bool:
    """Returns whether a member has the suffix of an image and is not hidden, as `._cat.png` is.

    Args:
        name: Name of the member.
        known: Suffixes of images; None takes those of images that can be opened.
    """
    base = posixpath.basename(name)
    return not base.startswith(".") and posixpath.splitext(base)[1].lower() in (known or suffixes())


def find_samples(names: Sequence[str], text_suffixes: Iterable[str]) -> Samples:
    """Sorts the members of an archive into samples.

    A text belongs to the images whose names are equal up to the last dot: `22.05.txt` to `22.05.png`. Otherwise it
    belongs to the images of its sample in WebDataset's sense, whose names are equal up to the first dot: `a.txt` to
    `a.left.png` and `a.right.png`, and `a.outputs.txt` to `a.input.jpg` if there is one image and one such text.

    Args:
        names: Names of the members, each once.
        text_suffixes: Suffixes of texts in lower case, such as ".txt". An image has at most one text of each suffix.
    """
    opened = {posixpath.splitext(name)[0] for name in names if is_image(name)}
    # A picture that cannot be opened gets a row that says so, unless a copy in another format can.
    images = [
        name
        for name in names
        if is_image(name) or (is_image(name, picture_suffixes()) and posixpath.splitext(name)[0] not in opened)
    ]
    by_stem, by_key = dict[str, list[str]](), dict[str, list[str]]()
    for image in images:
        stem = posixpath.splitext(image)[0]
        by_stem.setdefault(stem, []).append(image)
        by_key.setdefault(_key(stem), []).append(image)
    found = Samples({image: {} for image in images}, [group for group in by_key.values() if len(group) > 1])
    for suffix in text_suffixes:
        stems = dict[str, str]()
        for name in names:
            if _has_suffix(name, suffix) and stems.setdefault(name[: -len(suffix)], name) != name:
                found.unused.append(name)  # `a.TXT` beside `a.txt`
        for stem in [stem for stem in stems if stem in by_stem]:
            for image in by_stem[stem]:
                found.texts[image][suffix] = stems[stem]
            del stems[stem]
        fields = dict[str, list[str]]()
        for stem in stems:
            fields.setdefault(_key(stem), []).append(stem)
        for key, rest in fields.items():
            free = [image for image in by_key.get(key, []) if suffix not in found.texts[image]]
            whole = key in rest
            if free and (whole or (len(rest) == len(by_key[key]) == 1)):
                text = stems[key if whole else rest[0]]
                for image in free:
                    found.texts[image][suffix] = text
                rest.remove(key if whole else rest[0])
            found.unused += [stems[stem] for stem in rest]
    return found


def _has_suffix(name: str, suffix: str) -> bool:
    return name.lower().endswith(suffix) and len(name) > len(suffix) and not posixpath.basename(name).startswith(".")


def _key(stem: str) -> str:
    """Returns the key of a sample: a name up to its first dot, if names of fields follow, as in `a.left`.

    Other names are whole: `22.05` and `IMG_2023.11.04`.
    """
    folder, base = posixpath.split(stem)
    first, *fields = base.split(".")
    return posixpath.join(folder, first) if all(each.isidentifier() for each in fields) else stem

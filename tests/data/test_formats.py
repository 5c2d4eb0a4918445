from __future__ import annotations

from renoise.data.formats import suffixes


def test_suffixes_are_those_of_images_that_are_opened() -> None:
    assert {".png", ".jpg", ".jpeg", ".webp", ".gif", ".tif", ".bmp", ".ppm", ".mpo"} <= suffixes()
    assert not {".eps", ".ps", ".pdf", ".wmf", ".mpg", ".h5", ".jsonl", ".txt", ""} & suffixes()

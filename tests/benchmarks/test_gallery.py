from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from benchmarks import gallery
from benchmarks.gallery import PICTURES, Picture, draw_grid, error_curves, main, samples, write_page

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_shows_every_picture(tmp_path: Path) -> None:
    write_page(tmp_path / "gallery.md", PICTURES)
    assert (tmp_path / "gallery.md").read_text() == (DOCS / "gallery.md").read_text()
    for picture in PICTURES:
        with Image.open(DOCS / "gallery" / f"{picture.name}.jpg") as file:
            assert file.width == 1200


def test_pictures_are_drawn_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def draw() -> gallery.Figure:
        figure = gallery.Figure(figsize=(2, 1))
        draw_grid(figure, {"original": samples(0, 2).pictures}, ["cat", "dog"])
        return figure

    pictures = (Picture("one", "One", "text", draw), Picture("two", "Two", "text", draw))
    monkeypatch.setattr(gallery, "PICTURES", pictures)
    main(tmp_path, ["two"])
    assert [path.name for path in (tmp_path / "gallery").iterdir()] == ["two.jpg"]
    assert "![Two](gallery/two.jpg)" in (tmp_path / "gallery.md").read_text()


def test_the_error_falls_with_the_calls_and_faster_with_this_projects_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "SCENES_OF_CURVE", 1)
    monkeypatch.setattr(gallery, "CALLS", (2, 4))
    plain, ours = error_curves().values()
    assert [calls for calls, _ in plain] == [20, 40]
    assert plain[0][1] > plain[1][1] > ours[1][1]

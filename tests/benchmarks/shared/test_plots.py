from __future__ import annotations

from pathlib import Path

from PIL import Image

from benchmarks.shared.plots import Curve, plot_curves


def test_a_figure_of_many_curves_is_a_small_png_and_always_the_same(tmp_path: Path) -> None:
    curve: Curve = [(50.0, 30.0, "1"), (90.0, 25.5, "1.5"), (100.0, 20.0, "3")]
    panels = {f"editor {number}": {f"inversion {other}": curve for other in range(5)} for number in range(4)}
    panels["one inversion only"] = {"inversion 4": curve}
    first, second = tmp_path / "new/first.png", tmp_path / "second.png"
    for path in (first, second):
        plot_curves(path, panels, "share", "PSNR")
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size < 80_000
    with Image.open(first) as image:
        assert 2 * image.height < image.width < 3 * image.height, "five panels fill two rows"

from __future__ import annotations

import os
import random
from pathlib import Path

from benchmarks.damage import damage
from benchmarks.shared.runs import write_scenes
from renoise.data import UnreadableImageError, read_image


def test_damage_is_of_many_kinds_and_the_reader_withstands_them_all(tmp_path: Path) -> None:
    rng, outcomes = random.Random(1), set()
    root = write_scenes(tmp_path / "scenes", 60, captions=False, suffixes=(".png", ".jpg", ".webp"))
    for path in sorted(root.iterdir()):
        before, size = path.read_bytes(), path.stat().st_size
        damage(path, rng)
        assert os.path.lexists(path)
        if path.is_file() and path.stat().st_size == size:  # reading gigabytes of a bomb would take seconds
            assert path.read_bytes() != before
        try:
            assert read_image(path, 32).pixels.isfinite().all()
            outcomes.add("read")
        except UnreadableImageError as error:
            outcomes.add(str(error).split(":")[0].split(" (")[0])
    assert len(outcomes) >= 7, outcomes
    assert "read" in outcomes

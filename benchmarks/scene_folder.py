"""Writes unseen scenes as a data set for `renoise evaluate`: `python -m benchmarks.scene_folder out/unseen`.

The folder has the scenes, `metadata.jsonl` with their captions and those of the same scenes with another animal, and
`masks/`: white where either animal is.
"""

from __future__ import annotations

import json
from pathlib import Path

from jsonargparse import auto_cli
from PIL import Image

from benchmarks.shared.evaluation import background
from benchmarks.shared.scenes import swapped, unseen_scenes


def main(folder: Path, images: int = 64) -> None:
    """Writes the scenes that the benchmarks are measured on.

    Args:
        folder: Where to. It is created if necessary.
        images: Number of scenes.
    """
    scenes = unseen_scenes(images)
    targets = swapped(scenes)
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    rows = []
    for index, outside in enumerate(background(scenes, targets)):
        name, scene, target = f"{index:04d}.png", scenes[index], targets[index]
        scene.draw().save(folder / name)
        Image.fromarray(outside.numpy() == 0).save(folder / "masks" / name)
        row = {"file_name": name, "text": scene.caption, "edit_text": target.caption, "mask": f"masks/{name}"}
        rows.append(json.dumps(row) + "\n")
    (folder / "metadata.jsonl").write_text("".join(rows), encoding="utf-8")


if __name__ == "__main__":
    auto_cli(main)

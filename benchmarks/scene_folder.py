"""Writes unseen scenes as a data set for `renoise evaluate`: `python -m benchmarks.scene_folder out/unseen`.

`images/` is the data set. Its `metadata.jsonl` has the captions of the scenes and of the same scenes with another
animal, and its `masks/` are white where either animal is. `true_edits/` has the scenes with the other animals.
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
    root, masks, true_edits = folder / "images", folder / "images/masks", folder / "true_edits"
    for part in (masks, true_edits):
        part.mkdir(parents=True, exist_ok=True)
    rows = []
    for index, outside in enumerate(background(scenes, targets)):
        name, scene, target = f"{index:04d}.png", scenes[index], targets[index]
        scene.draw().save(root / name)
        Image.fromarray(outside.numpy() == 0).save(masks / name)
        target.draw().save(true_edits / name)
        row = {"file_name": name, "text": scene.caption, "edit_text": target.caption, "mask": f"masks/{name}"}
        rows.append(json.dumps(row) + "\n")
    (root / "metadata.jsonl").write_text("".join(rows), encoding="utf-8")


if __name__ == "__main__":
    auto_cli(main)

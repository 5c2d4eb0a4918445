"""`renoise predict` with edits that keep the latents outside of the images' masks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from renoise.data.images import read_image
from renoise.outputs.manifest import Manifest

SIZE = (32, 32)


def test_edits_keep_to_the_masks_of_a_folder_and_leave_out_pictures_without_one(
    tmp_path: Path, pictures: Callable[..., Path], predict: Callable[..., Any]
) -> None:
    folder = pictures(tmp_path / "photos", "all.png", "none.png", "unmasked.png")
    for name, white in (("all", 255), ("none", 0)):
        size = Image.open(folder / f"{name}.png").size[::-1]
        Image.fromarray(np.full(size, white, dtype=np.uint8)).save(folder / f"{name}-mask.png")
    rows = [{"file_name": f"{name}.png", "mask": f"{name}-mask.png"} for name in ("all", "none")]
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    texts = ["--data.prompt=a cat", "--data.edit_text=a dog", "--model.editors=[PromptSwap]"]
    run = predict(
        folder, tmp_path / "out", *texts, "--model.inversion=DirectInversion", "--model.keep_outside_mask=true"
    )
    assert run.status == 0, run.err
    outcomes = {row["file_name"]: row["edits"]["PromptSwap"] for row in Manifest(tmp_path / "out").read()}
    refusal = "the image has no mask, which keep_outside_mask needs"
    assert outcomes == {"all.png": "ok", "none.png": "ok", "unmasked.png": refusal}

    def change(name: str) -> float:
        files = (tmp_path / f"out/reconstructions/{name}.png", tmp_path / f"out/edits/PromptSwap/{name}.png")
        before, after = (read_image(file, SIZE, "stretch").pixels for file in files)
        return float((before - after).abs().max())

    assert change("none.png") <= 1 / 255  # rounding of one image decoded in another batch
    assert change("all.png") > 0.02


def test_a_sampler_of_its_own_is_refused(
    tmp_path: Path, pictures: Callable[..., Path], predict: Callable[..., Any]
) -> None:
    options = ["--model.inversion=EDICT", "--model.keep_outside_mask=true"]
    run = predict(pictures(tmp_path / "photos", "a.png"), tmp_path / "out", *options)
    assert (run.status, run.err.count("\n")) == (2, 1)
    assert run.err.startswith("error: model.keep_outside_mask: an edit that keeps what is outside of a mask takes the")

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchmetrics import MeanSquaredError, Metric
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure
from torchvision.models import squeezenet1_1

from renoise.metrics import (
    BackgroundLPIPS,
    BackgroundMSE,
    BackgroundPSNR,
    EditComparison,
    EditMetric,
    LPIPSSqueeze,
    make_edit_metrics,
)
from renoise.outputs.image_result import finite

NAMES = ["background_psnr", "background_ssim", "background_mse"]


def comparison(edits: torch.Tensor | None = None, masks: torch.Tensor | None = None) -> EditComparison:
    """Three images. By default the edits are noisy, and the mask is a rectangle of another size in each."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 3, 48, 40, generator=generator)
    noisy = (images + 0.1 * torch.randn(images.shape, generator=generator)).clamp(0, 1)
    rectangles = torch.zeros(3, 48, 40, dtype=torch.bool)
    for index in range(3):
        rectangles[index, 4 : 12 + 8 * index, 5:30] = True
    edits, masks = noisy if edits is None else edits, rectangles if masks is None else masks
    return EditComparison(images, edits, ["a cat"] * 3, ["a dog"] * 3, masks)


def multiplied(given: EditComparison) -> list[torch.Tensor]:
    """Original and edit as PnPInversion multiplies them by 1 − mask, float32 [B, 3, H, W]."""
    assert given.masks is not None
    background = 1 - given.masks.numpy()[:, None].astype(np.float32)
    return [torch.from_numpy(each.numpy() * background) for each in (given.images, given.edits)]


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("background_psnr", PeakSignalNoiseRatio(data_range=1.0)),
        ("background_ssim", StructuralSimilarityIndexMeasure(data_range=1.0)),
        ("background_mse", MeanSquaredError()),
    ],
)
def test_background_metrics_run_over_the_whole_frame_with_the_edited_region_black(name: str, oracle: Metric) -> None:
    given = comparison()
    images, edits = multiplied(given)
    expected = torch.stack([oracle(edits[index : index + 1], images[index : index + 1]) for index in range(3)])
    (metric,) = make_edit_metrics([name]).values()
    torch.testing.assert_close(metric(given), expected)


def test_background_lpips_is_lpips_of_the_multiplied_images(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = str(tmp_path / "weights.safetensors")
    save_file(squeezenet1_1().state_dict(), weights)
    given = comparison()
    images, edits = multiplied(given)
    expected = LPIPSSqueeze(weights=weights).compare(edits, images)
    torch.testing.assert_close(BackgroundLPIPS(weights)(given), expected)


@pytest.mark.parametrize("name", NAMES)
def test_what_happens_inside_the_mask_does_not_count(name: str) -> None:
    given = comparison()
    assert given.masks is not None
    changed = given.edits.where(~given.masks[:, None], torch.rand(3, 3, 48, 40))
    (metric,) = make_edit_metrics([name]).values()
    torch.testing.assert_close(metric(comparison(changed)), metric(given))


@pytest.mark.parametrize("name", NAMES)
def test_an_image_that_is_edited_everywhere_has_no_background(name: str) -> None:
    given = comparison()
    assert given.masks is not None
    given.masks[1] = True
    (metric,) = make_edit_metrics([name]).values()
    assert metric(given).isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("name", NAMES)
def test_with_an_empty_mask_the_background_is_the_whole_image(name: str) -> None:
    given = comparison(masks=torch.zeros(3, 48, 40, dtype=torch.bool))
    whole, background = make_edit_metrics([name.removeprefix("background_"), name]).values()
    torch.testing.assert_close(background(given), whole(given))


def test_an_unchanged_background_has_infinite_psnr_which_is_null_in_json() -> None:
    given = comparison()
    assert given.masks is not None
    inside = given.edits.where(given.masks[:, None], given.images)
    values = BackgroundPSNR()(comparison(inside))
    assert values.isinf().all()
    assert [finite(value) for value in values.tolist()] == [None] * 3
    assert BackgroundMSE()(comparison(inside)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", NAMES)
def test_images_without_masks_are_an_error(name: str) -> None:
    images = torch.rand(1, 3, 32, 32)
    metric: EditMetric = make_edit_metrics([name])[name]
    assert metric.uses_mask
    with pytest.raises(ValueError, match=f"masks: {name} needs a mask for each image, got None"):
        metric(EditComparison(images, images, [""], [""]))

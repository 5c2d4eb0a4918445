from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from renoise.errors import InputError
from renoise.metrics import STLPIPSVGG, STLPIPSAlex

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = F.interpolate(torch.rand(2, 3, 16, 16, generator=GENERATOR), 64, mode="bicubic").clamp(0, 1)
OTHERS = (IMAGES + 0.1 * torch.randn(IMAGES.shape, generator=GENERATOR)).clamp(0, 1)


def test_a_missing_package_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stlpips_pytorch", None)
    with pytest.raises(InputError, match=r'st_lpips_vgg needs the package stlpips.*pip install "renoise\[stlpips\]"'):
        STLPIPSVGG()


def blur(features: torch.Tensor) -> torch.Tensor:
    """Halves the resolution with weights 1, 2, 1 in both directions."""
    kernel = torch.tensor([1.0, 2.0, 1.0])
    weights = (kernel[:, None] * kernel / 16).expand(features.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(features, (2, 2, 2, 2), mode="reflect"), weights, stride=2, groups=features.shape[1])


@torch.no_grad()
def oracle(weights: dict[str, torch.Tensor], *pair: torch.Tensor) -> torch.Tensor:
    """ST-LPIPS of AlexNet with the package's weights, from the description in its paper."""

    def conv(x: torch.Tensor, name: str, padding: int) -> torch.Tensor:
        return F.conv2d(x, weights[f"net.{name}.weight"], weights[f"net.{name}.bias"], padding=padding)

    def features(x: torch.Tensor) -> list[torch.Tensor]:
        x = (2 * x - 1 - weights["scaling_layer.shift"]) / weights["scaling_layer.scale"]
        first = blur(conv(x, "slice1.0", 2)).relu()
        second = conv(blur(F.max_pool2d(first, 3, 1)), "slice2.5", 2).relu()
        third = conv(blur(F.max_pool2d(second, 3, 1)), "slice3.9", 1).relu()
        fourth = conv(third, "slice4.11", 1).relu()
        return [first, second, third, fourth, conv(fourth, "slice5.13", 1).relu()]

    total = torch.zeros(len(pair[0]))
    for index, (x, y) in enumerate(zip(*map(features, pair), strict=True)):
        unit_x, unit_y = (each / each.norm(dim=1, keepdim=True).clamp(min=1e-8) for each in (x, y))
        total += ((unit_x - unit_y).square() * weights[f"lin{index}.model.1.weight"]).sum(dim=1).mean(dim=(1, 2))
    return total


def test_st_lpips_is_that_of_its_paper() -> None:
    package = pytest.importorskip("stlpips_pytorch")
    path = Path(package.__file__).parent / "weights/vST0.0/alex_shift_tolerant.pth"
    expected = oracle(torch.load(path, map_location="cpu", weights_only=True), IMAGES, OTHERS)
    metric = STLPIPSAlex()
    torch.testing.assert_close(metric.compare(IMAGES, OTHERS), expected, rtol=1e-4, atol=1e-7)
    assert metric.compare(IMAGES, IMAGES).tolist() == [0, 0]
    assert metric.compare(IMAGES[:1], OTHERS[:1]).shape == (1,)
    found = metric.compare(IMAGES, OTHERS)
    with torch.autocast("cpu", torch.bfloat16):
        assert metric.compare(IMAGES, OTHERS).equal(found)


def test_the_vgg_variant_has_weights_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("stlpips_pytorch")
    images, others = IMAGES[:1, :, :32, :32], OTHERS[:1, :, :32, :32]
    metric = STLPIPSVGG()
    assert metric.compare(images, images).tolist() == [0]
    assert (metric.compare(images, others) > 0.01).all()
    assert capsys.readouterr().out == ""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchmetrics
from safetensors.torch import save_file
from torch import nn
from torchvision.models import alexnet, squeezenet1_1
from torchvision.models.vgg import cfgs, make_layers

from renoise.errors import InputError
from renoise.metrics import LPIPSVGG, EditComparison, LPIPSAlex, LPIPSSqueeze
from renoise.metrics.lpips import LPIPS

TAPS = {
    LPIPSVGG: (3, 8, 15, 22, 29),
    LPIPSAlex: (1, 4, 7, 9, 11),
    LPIPSSqueeze: (1, 4, 7, 9, 10, 11, 12),
}
"""The layers of torchvision's `features` whose output is compared, from the `lpips` package's networks."""
SQUEEZENET = "squeezenet1_1-b8a52dc0.pth"
"""The name of torchvision's file."""


@pytest.fixture(scope="module")
def images() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 64, 64, generator=generator)
    return images, (images + 0.2 * torch.randn(images.shape, generator=generator)).clamp(0, 1)


def random_features(metric: type[LPIPS]) -> nn.Sequential:
    """The convolutions of a network of the true architecture. torchvision's VGG would spend seconds on the others."""
    torch.manual_seed(0)
    if metric is LPIPSVGG:
        return make_layers(cfgs["D"])
    network = alexnet() if metric is LPIPSAlex else squeezenet1_1()
    return network.features


def save(features: nn.Sequential, path: Path) -> str:
    save_file({f"features.{name}": value for name, value in features.state_dict().items()}, path)
    return str(path)


@torch.no_grad()
def oracle(metric: type[LPIPS], features: nn.Sequential, pairs: list[torch.Tensor]) -> torch.Tensor:
    """LPIPS of images that are fed as they are, as its paper says, with the fitted weights that torchmetrics ships."""
    path = Path(torchmetrics.__file__).parent / f"functional/image/lpips_models/{metric.kind}.pth"
    heads = list(torch.load(path, map_location="cpu", weights_only=True).values())
    shift, scale = torch.tensor([[-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]])[:, None, :, None, None]
    x, y = ((each - shift) / scale for each in pairs)
    total, taken = torch.zeros(len(x)), 0
    for position, layer in enumerate(features):
        x, y = layer(x.clone()), layer(y.clone())
        if position in TAPS[metric]:
            unit_x, unit_y = (each / (each.square().sum(dim=1, keepdim=True) + 1e-8).sqrt() for each in (x, y))
            total += ((unit_x - unit_y).square() * heads[taken]).sum(dim=1).mean(dim=(1, 2))
            taken += 1
    assert taken == len(heads)
    return total


@pytest.mark.parametrize("metric", [LPIPSVGG, LPIPSAlex, LPIPSSqueeze])
def test_lpips_is_that_of_its_paper_in_both_ranges(
    metric: type[LPIPS], images: tuple[torch.Tensor, torch.Tensor], tmp_path: Path
) -> None:
    if metric is LPIPSVGG:
        images = images[0][..., :32, :32], images[1][..., :32, :32]  # faster
    features = random_features(metric)
    lpips = metric(weights=save(features, tmp_path / "weights.safetensors"))
    scaled = oracle(metric, features, [2 * each - 1 for each in images])
    torch.testing.assert_close(lpips.compare(*images), scaled, rtol=1e-4, atol=1e-7)
    lpips.range = (0.0, 1.0)
    unscaled = oracle(metric, features, list(images))
    torch.testing.assert_close(lpips.compare(*images), unscaled, rtol=1e-4, atol=1e-7)
    assert ((unscaled - scaled).abs() > 0.02 * scaled).all()
    assert lpips.compare(images[0][:1], images[1][:1]).shape == (1,)
    assert lpips.compare(images[0], images[0]).tolist() == [0, 0]


def test_lpips_does_not_depend_on_the_precision_of_the_run(
    images: tuple[torch.Tensor, torch.Tensor], tmp_path: Path
) -> None:
    lpips = LPIPSSqueeze(weights=save(random_features(LPIPSSqueeze), tmp_path / "weights.safetensors"))
    expected = lpips.compare(*images)
    with torch.autocast("cpu", torch.bfloat16):
        assert lpips.compare(*images).equal(expected)


def test_torchvisions_own_weights_are_taken_where_they_are_in_its_cache(
    images: tuple[torch.Tensor, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    features = random_features(LPIPSSqueeze)
    cached = tmp_path / "hub/checkpoints" / SQUEEZENET
    with pytest.raises(InputError) as caught:
        LPIPSSqueeze()
    url = f"https://download.pytorch.org/models/{SQUEEZENET}"
    assert str(caught.value) == (
        f"metrics: lpips_squeeze needs torchvision's squeezenet1_1: download {url} to {cached}, "
        "or give a .safetensors file as `weights`"
    )
    cached.parent.mkdir(parents=True)
    torch.save({f"features.{name}": value for name, value in features.state_dict().items()}, cached)
    given = LPIPSSqueeze(weights=save(features, tmp_path / "weights.safetensors"))
    assert LPIPSSqueeze().compare(*images).equal(given.compare(*images))


def test_the_range_is_one_of_the_two_in_use() -> None:
    with pytest.raises(ValueError, match=r"range must be \[-1, 1\] or \[0, 1\], got \[0, 255\]"):
        LPIPSVGG(range=(0, 255))


def test_files_without_the_networks_weights_are_an_error(tmp_path: Path) -> None:
    other = save(nn.Sequential(nn.Conv2d(3, 4, 3)), tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"lpips_squeeze: .*other.safetensors is not the state dictionary of torchv"):
        LPIPSSqueeze(weights=other)
    with pytest.raises(InputError, match=r"lpips_squeeze: weights: none.safetensors cannot be read"):
        LPIPSSqueeze(weights="none.safetensors")


def test_lpips_of_an_edit_compares_it_with_the_original(
    images: tuple[torch.Tensor, torch.Tensor], tmp_path: Path
) -> None:
    lpips = LPIPSSqueeze(weights=save(random_features(LPIPSSqueeze), tmp_path / "weights.safetensors"))
    comparison = EditComparison(images[0], images[1], ["a cat"] * 2, ["a dog"] * 2)
    torch.testing.assert_close(lpips(comparison), lpips.compare(images[1], images[0]))

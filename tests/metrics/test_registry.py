from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from renoise.errors import InputError
from renoise.metrics import (
    EDIT_METRICS,
    METRICS,
    Comparison,
    EditComparison,
    Metric,
    make_edit_metrics,
    make_metrics,
    register_metric,
)
from renoise.metrics.registry import as_markdown

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
WITHOUT_NETWORK = ["psnr", "ssim", "psnr_vae", "latent_mse", "mse"]
EDITS_WITHOUT_NETWORK = ["psnr", "ssim", "mse", "background_psnr", "background_ssim", "background_mse"]


@pytest.fixture
def brightness() -> Iterator[type[Metric]]:
    """A metric that is registered during one test."""

    @register_metric
    class Brightness(Metric):
        """Mean brightness of the reconstruction."""

        name, title, format, higher_is_better = "brightness", "brightness", ".1f", True

        def __call__(self, comparison: Comparison) -> torch.Tensor:
            return comparison.reconstructions.mean(dim=(1, 2, 3))

    yield Brightness
    del METRICS["brightness"]


def test_metrics_are_made_in_the_order_asked_for() -> None:
    metrics = make_metrics(["ssim", "psnr"])
    assert list(metrics) == ["ssim", "psnr"]
    assert [type(metric) for metric in metrics.values()] == [METRICS["ssim"], METRICS["psnr"]]
    assert make_metrics([]) == {}


def test_an_unknown_metric_is_an_error_that_lists_those_that_exist() -> None:
    with pytest.raises(InputError, match="metrics: there is no 'lpips'; there are psnr, ssim, psnr_vae, latent_mse"):
        make_metrics(["psnr", "lpips"])
    with pytest.raises(InputError, match="metrics: there is no 'psnr_vae'; there are psnr, ssim, mse"):
        make_edit_metrics(["psnr_vae"])


def test_a_metric_given_twice_is_an_error() -> None:
    with pytest.raises(InputError, match="metrics: 'psnr' is given twice"):
        make_metrics(["psnr", "ssim", "psnr"])


def test_a_metric_takes_options_by_name() -> None:
    metrics = make_metrics(["psnr", {"mse": {}}, {"ssim": {}}])
    assert list(metrics) == ["psnr", "mse", "ssim"]
    with pytest.raises(InputError, match=r"metrics: lpips_vgg: range must be \[-1, 1\] or \[0, 1\], got \[0, 2\]"):
        make_metrics([{"lpips_vgg": {"range": [0, 2]}}])
    with pytest.raises(InputError, match="metrics: lpips_vgg has no option 'net'; there are range, weights"):
        make_metrics([{"lpips_vgg": {"net": "vgg"}}])
    with pytest.raises(InputError, match="metrics: psnr has no option 'range'; it has none"):
        make_metrics([{"psnr": {"range": [0, 1]}}])
    with pytest.raises(InputError, match="metrics: give a name, or one name with its options"):
        make_metrics([{"psnr": {}, "ssim": {}}])


def test_a_registered_class_can_be_asked_for_by_name(brightness: type[Metric]) -> None:
    assert type(make_metrics(["brightness"])["brightness"]) is brightness


def test_two_metrics_cannot_have_one_name(brightness: type[Metric]) -> None:
    another = type("Another", (brightness,), {})
    with pytest.raises(ValueError, match="two metrics are called 'brightness': Brightness, Another"):
        register_metric(another)
    assert METRICS["brightness"] is brightness


def test_every_metric_gives_one_number_per_image() -> None:
    images, latents = torch.rand(3, 3, 32, 32), torch.zeros(3, 4, 8, 8)
    comparison = Comparison(images, images.flip(0), latents, latents + 1, images.roll(1, 0))
    for name, metric in make_metrics(WITHOUT_NETWORK).items():
        assert metric(comparison).shape == (3,), name


def test_every_metric_of_edits_gives_one_number_per_image() -> None:
    images, masks = torch.rand(3, 3, 32, 32), torch.rand(3, 32, 32) < 0.5
    comparison = EditComparison(images, images.flip(0), ["a cat"] * 3, ["a dog"] * 3, masks)
    for name, metric in make_edit_metrics(EDITS_WITHOUT_NETWORK).items():
        assert metric(comparison).shape == (3,), name


def test_metrics_that_compare_two_images_measure_reconstructions_and_edits_alike() -> None:
    images, others, latents = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32), torch.zeros(2, 4, 8, 8)
    both = ["psnr", "ssim", "mse"]
    rebuilt = Comparison(images, others, latents, latents)
    edited = EditComparison(images, others, [], [])
    for of_rebuilt, of_edits in zip(make_metrics(both).values(), make_edit_metrics(both).values(), strict=True):
        torch.testing.assert_close(of_rebuilt(rebuilt), of_edits(edited))


@pytest.mark.parametrize("registry", [METRICS, EDIT_METRICS])
def test_every_metric_has_a_documented_format_and_title(registry: dict[str, type[Metric]]) -> None:
    assert len({metric.title for metric in registry.values()}) == len(registry)
    for name, metric in registry.items():
        assert metric.name == name
        assert format(0.5, metric.format)
        assert metric.__doc__


@pytest.mark.parametrize(
    ("heading", "names"),
    [("metrics", METRICS.keys()), ("metrics of edits", EDIT_METRICS.keys() - METRICS.keys())],
)
def test_the_tables_in_the_documentation_are_up_to_date(heading: str, names: set[str]) -> None:
    begin, end = f"<!-- begin {heading} -->\n", f"<!-- end {heading} -->"
    table = PAGE.read_text(encoding="utf-8").partition(begin)[2].partition(end)[0]
    known = METRICS | EDIT_METRICS
    own = [metric for name, metric in known.items() if name in names and metric.__module__.startswith("renoise.")]
    expected = as_markdown(own)
    assert table == expected, f"replace the table in docs/metrics.md by this one:\n{expected}"

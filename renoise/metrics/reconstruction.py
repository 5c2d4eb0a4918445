"""How close images are to others: reconstructions, and also edits, to the originals."""

from __future__ import annotations

from torch import Tensor

from renoise.metrics import functional
from renoise.metrics.base import Comparison, Metric, PairMetric
from renoise.metrics.registry import register_metric


@register_metric
class PSNR(PairMetric):
    """Peak signal-to-noise ratio of the reconstruction. The autoencoder's share of the error is included.

    Example:
        >>> import torch
        >>> from renoise.metrics import PSNR, Comparison
        >>> images, latents = torch.zeros(2, 3, 32, 32), torch.zeros(2, 4, 8, 8)
        >>> PSNR()(Comparison(images, images + 0.1, latents, latents, images))
        tensor([20., 20.])
    """

    name = "psnr"
    title = "PSNR (dB)"
    format = ".2f"
    higher_is_better = True

    def compare(self, images: Tensor, targets: Tensor) -> Tensor:
        """See `PairMetric` and `functional.psnr`."""
        return functional.psnr(images, targets)


@register_metric
class SSIM(PairMetric):
    """Structural similarity of the reconstruction.

    Example:
        >>> import torch
        >>> from renoise.metrics import SSIM, Comparison
        >>> images, latents = torch.rand(2, 3, 32, 32), torch.zeros(2, 4, 8, 8)
        >>> SSIM()(Comparison(images, images, latents, latents, images))
        tensor([1., 1.])
    """

    name = "ssim"
    title = "SSIM"
    format = ".3f"
    higher_is_better = True

    def compare(self, images: Tensor, targets: Tensor) -> Tensor:
        """See `PairMetric` and `functional.ssim`."""
        return functional.ssim(images, targets)


@register_metric
class PSNRVAE(Metric):
    """Peak signal-to-noise ratio of the autoencoder's round trip without inversion: the ceiling of `psnr`.

    Example:
        >>> import torch
        >>> from renoise.metrics import PSNRVAE, Comparison
        >>> images, latents = torch.zeros(2, 3, 32, 32), torch.zeros(2, 4, 8, 8)
        >>> PSNRVAE()(Comparison(images, images, latents, latents, decoded=images + 0.01))
        tensor([40., 40.])
    """

    name = "psnr_vae"
    title = "VAE PSNR (dB)"
    format = ".2f"
    higher_is_better = True

    def __call__(self, comparison: Comparison) -> Tensor:
        """See `Metric` and `functional.psnr`."""
        assert comparison.decoded is not None, "a run decodes it for metrics with uses_decoded"
        return functional.psnr(comparison.decoded, comparison.images)


@register_metric
class LatentMSE(Metric):
    """Mean squared error between z_0 as encoded and z_0 as sampling gives it; the autoencoder has no share in it.

    Example:
        >>> import torch
        >>> from renoise.metrics import Comparison, LatentMSE
        >>> images, latents = torch.zeros(2, 3, 32, 32), torch.zeros(2, 4, 8, 8)
        >>> LatentMSE()(Comparison(images, images, latents, latents + 2, images))
        tensor([4., 4.])
    """

    name = "latent_mse"
    title = "latent MSE"
    format = ".2e"
    higher_is_better = False
    uses_decoded = False

    def __call__(self, comparison: Comparison) -> Tensor:
        """See `Metric` and `functional.mean_squared_error`."""
        return functional.mean_squared_error(comparison.rebuilt_latents, comparison.latents)


@register_metric
class MSE(PairMetric):
    """Mean squared error of the pixels in [0, 1]: the ReNoise paper's L2.

    Example:
        >>> import torch
        >>> from renoise.metrics import MSE, Comparison
        >>> images, latents = torch.zeros(2, 3, 32, 32), torch.zeros(2, 4, 8, 8)
        >>> MSE()(Comparison(images, images + 0.5, latents, latents))
        tensor([0.2500, 0.2500])
    """

    name = "mse"
    title = "MSE"
    format = ".2e"
    higher_is_better = False

    def compare(self, images: Tensor, targets: Tensor) -> Tensor:
        """See `PairMetric` and `functional.mean_squared_error`."""
        return functional.mean_squared_error(images, targets)

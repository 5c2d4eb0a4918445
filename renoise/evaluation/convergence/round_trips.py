"""Inverts and reconstructs a few images by several settings of `ReNoise`, and measures what each reaches and costs."""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from renoise.api.pipeline import InversionPipeline
from renoise.core.renoise import AveragingWeights
from renoise.data import Encoded, ImageBatch
from renoise.inversion.base import Inverter
from renoise.inversion.renoise import ReNoise
from renoise.inversion.sampling import sample
from renoise.metrics.functional import mean_squared_error, psnr
from renoise.models.conditioning import Conditioning
from renoise.utils.configurable import Configurable


@dataclass(frozen=True)
class Images:
    """A batch of images that are inverted several times.

    Args:
        batch: Of B images.
        encoded: The images as latents.
        conditioning: Of their prompts.
    """

    batch: ImageBatch
    encoded: Encoded
    conditioning: Conditioning


@dataclass(frozen=True)
class RoundTrip:
    """What one setting reaches and costs: means over the images.

    Args:
        name: Of the setting.
        options: Options of the command line that differ from the given ones.
        nfe: Network calls of the inversion, per image.
        psnr: Of the reconstruction, in dB.
        latent_mse: Of the reconstruction.
        seconds: Of the inversion, per image.
        residual: Largest of any step, the median over images. NaN where no step was solved.
        failed: Images that could not be inverted. The means leave them out.
    """

    name: str
    options: str
    nfe: float
    psnr: float
    latent_mse: float
    seconds: float
    residual: float
    failed: int

    def reaches(self, wanted: float) -> bool:
        """Returns whether all images were inverted, and their mean PSNR is at least so many dB."""
        return self.failed == 0 and self.psnr >= wanted


class RoundTrips:
    """Round trips of the same images.

    Args:
        pipeline: The model, its sampler's steps and the given inversion method.
        images: The images.
    """

    def __init__(self, pipeline: InversionPipeline, images: Sequence[Images]) -> None:
        self.pipeline, self.images = pipeline, images
        self.given: Inverter = pipeline.inversion
        self.base = arguments_of(self.given)
        self.done: list[RoundTrip] = []

    def ceiling(self) -> float:
        """Returns the PSNR of the autoencoder's own round trip, in dB: the mean over images."""
        values = []
        for each in self.images:
            decoded = each.encoded.decoded
            if decoded is None:
                decoded = self.pipeline.model.decode_latents(each.encoded.latents)
            values.append(psnr(decoded, each.batch.images))
        return float(torch.cat(values).mean())

    def run(self, name: str, changes: Mapping[str, Any]) -> RoundTrip | None:
        """Inverts and reconstructs the images.

        Args:
            name: Of the setting.
            changes: Arguments of `ReNoise` that differ from the given ones.

        Returns:
            None where the model or its sampler cannot work with the setting.
        """
        method = ReNoise(**{**self.base, **changes})
        try:
            method.check(self.pipeline.model, self.pipeline.inversion_schedule, self.pipeline.guidance_scale)
        except ValueError:
            return None
        columns = [self._measure(method, each) for each in self.images]
        joined = {column: [value for part in columns for value in part[column]] for column in columns[0]}
        good = [position for position, value in enumerate(joined["psnr"]) if value == value]  # NaN failed
        means = {column: _mean([values[position] for position in good]) for column, values in joined.items()}
        residuals = torch.tensor([joined["residual"][position] for position in good])
        found = RoundTrip(
            name,
            options_of(method.init_args, self.given),
            means["nfe"],
            means["psnr"],
            means["latent_mse"],
            means["seconds"],
            float(residuals.median()) if good else float("nan"),
            failed=len(joined["psnr"]) - len(good),
        )
        self.done.append(found)
        return found

    def _measure(self, method: ReNoise, images: Images) -> dict[str, list[float]]:
        """Returns a value for each image."""
        names = [record.file_name for record in images.batch.records]
        latents, model = images.encoded.latents, self.pipeline.model
        started = time.perf_counter()
        inversion = self.pipeline.invert_latents(latents, images.conditioning, names, inversion=method)
        nfe = inversion.nfe.tolist()  # waits for a GPU
        seconds = (time.perf_counter() - started) / len(names)
        rebuilt = sample(model, inversion)
        assert inversion.residual is not None
        return {
            "nfe": nfe,
            "psnr": psnr(model.decode_latents(rebuilt), images.batch.images).tolist(),
            "latent_mse": mean_squared_error(rebuilt, latents).tolist(),
            "seconds": [seconds] * len(names),
            "residual": inversion.residual.tolist(),
        }


def arguments_of(given: Inverter) -> dict[str, Any]:
    """Returns the arguments of an inversion method that is ReNoise, and the defaults of ReNoise for any other one."""
    return given.init_args if type(given) is ReNoise else ReNoise().init_args  # DDIM is a ReNoise with others


def options_of(wanted: Mapping[str, Any], given: Inverter) -> str:
    """Returns the options of the command line that change the given inversion method.

    Args:
        wanted: Arguments of `ReNoise`.
        given: The inversion method as the command line has it.

    Example:
        >>> import renoise
        >>> from renoise.evaluation.convergence.round_trips import options_of
        >>> options_of(renoise.ReNoise(iterations=4).init_args, renoise.ReNoise(iterations=9))
        '--model.inversion.iterations 4'
    """
    before = arguments_of(given)
    words = [] if type(given) is ReNoise else ["--model.inversion ReNoise"]
    for name, value in wanted.items():
        if value is not before[name] and value != before[name]:
            words.append(f"--model.inversion.{name} {shlex.quote(_as_text(value))}")
    return " ".join(words)


def _as_text(value: Any) -> str:
    """Returns an argument as the command line takes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Configurable):
        return type(value).__name__
    if isinstance(value, AveragingWeights):
        fields = {key: each for key, each in dataclasses.asdict(value).items() if key in ("below", "above")}
        return ", ".join(f"{key}: {list(each)}" for key, each in fields.items()).join("{}")
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")

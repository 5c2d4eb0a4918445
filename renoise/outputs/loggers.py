"""What `--trainer.logger` gets: the numbers of every image, the means of the run and its contact sheet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from PIL import Image

CONTACT_SHEET = "contact_sheet"


def log_settings(loggers: Iterable[Logger], settings: Mapping[str, Any]) -> None:
    """Logs the settings of a run as its hyperparameters.

    Args:
        loggers: Of the Trainer.
        settings: In JSON types.
    """
    for logger in loggers:
        logger.log_hyperparams(dict(settings))


def log_rows(loggers: Iterable[Logger], rows: Sequence[Mapping[str, Any]], step: int) -> None:
    """Logs the numbers of images, each as a step of its own.

    Args:
        loggers: Of the Trainer.
        rows: Rows of the manifest.
        step: Number of images that are logged already.
    """
    for logger in loggers:
        for number, row in enumerate(rows, start=step):
            logger.log_metrics(_numbers(row), step=number)


def log_summary(loggers: Iterable[Logger], summary: Mapping[str, Any], sheet: Image.Image, step: int) -> None:
    """Logs the means of a run, and its contact sheet where the logger takes pictures.

    Args:
        loggers: Of the Trainer.
        summary: See `summarize`.
        sheet: The contact sheet.
        step: Number of images that are logged.
    """
    means = {f"summary/{name}": value for name, value in _numbers(summary).items()}
    for logger in loggers:
        logger.log_metrics(means, step=step)
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(CONTACT_SHEET, np.asarray(sheet), step, dataformats="HWC")
        elif isinstance(logger, WandbLogger):
            logger.log_image(CONTACT_SHEET, [sheet])


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """Returns the columns that are numbers, and whether the image failed."""
    numbers = {name: float(value) for name, value in row.items() if isinstance(value, (bool, int, float))}
    return numbers | ({"failed": float(row["status"] == "failed")} if "status" in row else {})

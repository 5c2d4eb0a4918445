"""Runs one method over the data set, as `renoise predict` does, into a folder of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from renoise.data import ImagesDataModule
from renoise.data.captions import CAPTIONS_NAME
from renoise.evaluation.suites import Method, Suite, SuiteEditor
from renoise.metrics import METRICS
from renoise.outputs.manifest import Manifest
from renoise.predict import ReNoiseCLI, predict
from renoise.utils.files import write_atomically, writing_to
from renoise.utils.launchers import is_first_process

RUNS = "runs"
"""The folder of the methods' folders."""


class SilentCLI(ReNoiseCLI):
    """Runs `predict` and prints no summary: the tables of the evaluation have it."""

    def after_predict(self) -> None:
        """Does nothing."""


@dataclass(frozen=True)
class MethodRun:
    """A method that has inverted and edited all images.

    Args:
        method: The method.
        folder: With its manifest, reconstructions and edits.
        editors: What edited the inversions, by the names of their folders.
        data: The data set, without the model that read it.
        device: What the model computed on.
        is_first_process: Whether this process has rank 0, which alone measures edits and writes tables.
    """

    method: Method
    folder: Path
    editors: Mapping[str, SuiteEditor]
    data: ImagesDataModule
    device: Any
    is_first_process: bool

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The manifest's rows of the images of this evaluation, in the data set's order. They are read once."""
        rows = {row["file_name"]: row for row in Manifest(self.folder).read()}
        return [rows[record.file_name] for record in self.data.records if record.file_name in rows]


def run_method(suite: Suite, method: Method, arguments: Sequence[str], folder: Path) -> MethodRun:
    """Inverts and edits all images by one method. What an earlier run has finished is not repeated.

    Args:
        suite: Its editors, if it has any, edit every inversion.
        method: Its options come last, so they override `arguments`.
        arguments: Options of `renoise predict`, as on the command line.
        folder: Of the evaluation.

    Raises:
        InputError: A mistake in the options, or the folder holds the output of other settings.
    """
    run_folder = folder / RUNS / method.name
    if not method.data:
        _share_captions(folder, run_folder)
    command_line = predict(predict_arguments(suite, method, arguments, run_folder), SilentCLI)
    trainer, data = command_line.trainer, command_line.datamodule
    folders = [*command_line.model.editors]
    editors = suite.editors_of(method)
    if suite.editors is None:
        editors = [SuiteEditor(name, name, {}) for name in folders]
    run = MethodRun(
        method,
        run_folder,
        dict(zip(folders, editors, strict=True)),
        data,
        trainer.strategy.root_device,
        trainer.is_global_zero,
    )
    data.connect(data.size_multiple, prepare=None)  # let go of the model, so that the next one has room
    data.trainer = None
    return run


def predict_arguments(suite: Suite, method: Method, arguments: Sequence[str], run_folder: Path) -> list[str]:
    """Returns the arguments of `renoise predict` for one method. Later ones override earlier ones.

    Args:
        suite: See `run_method`.
        method: See `run_method`.
        arguments: See `run_method`.
        run_folder: Of the method's output.
    """
    editors = [dict(editor.setting) for editor in suite.editors_of(method)]
    return [
        "predict",
        *arguments,
        *("--config", json.dumps({"model": dict(method.model)})),
        *(f"--data.{name}={_argument(value)}" for name, value in method.data.items()),
        *([] if suite.editors is None else ["--model.editors", json.dumps(editors)]),
        *("--model.metrics", json.dumps(suite.metrics_in(METRICS))),
        *("--trainer.default_root_dir", str(run_folder)),
    ]


def _share_captions(folder: Path, run_folder: Path) -> None:
    """Gives a run the captions of a run before it, so that no image is captioned once for each method."""
    target = run_folder / CAPTIONS_NAME
    sources = sorted((folder / RUNS).glob(f"*/{CAPTIONS_NAME}"))
    if is_first_process() and sources and not target.exists():
        with writing_to(folder):
            write_atomically(target, sources[0].read_bytes())


def _argument(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)

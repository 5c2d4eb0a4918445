"""The command line: LightningCLI with `predict` (inversion) and `fit` (the models that ship with the project)."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any, cast

import diffusers
import lightning as L
import transformers
from jsonargparse import set_parsing_settings
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from omegaconf.errors import OmegaConfBaseException

from renoise.data import ImageFolderDataModule, ImagesDataModule
from renoise.editing.base import load_editors
from renoise.errors import InputError, InputWarning
from renoise.module import ReNoiseModule
from renoise.parser import Parser
from renoise.writer import InversionWriter

PREDICT_DEFAULTS = {
    "trainer.inference_mode": False,  # edits may need gradients, which inference mode forbids for good
    "trainer.use_distributed_sampler": False,  # the data modules share images among processes themselves
    "trainer.logger": False,
    "trainer.enable_checkpointing": False,
    "trainer.enable_model_summary": False,
    "return_predictions": False,
}
NOT_SETTINGS = {
    "model": {"strict", "overwrite", "retry_failed", "images_per_shard"},
    "data": {"batch_size", "num_workers"},
}
"""Options that do not change what comes out for an image."""
PLACES = {"root", "checkpoint", "lora", "captioner"}
"""Options that name a place, which may be written in several ways."""


class ReNoiseCLI(LightningCLI):
    """`predict` runs `ReNoiseModule` over a DataModule of images; `fit` trains any LightningModule."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """`fit` and `predict` of the Trainer, with the arguments that the CLI itself fills in."""
        return {name: arguments for name, arguments in LightningCLI.subcommands().items() if name in ("fit", "predict")}

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        predict = subcommand == "predict"
        self._model_class = ReNoiseModule if predict else L.LightningModule
        self.subclass_mode_model = not predict
        self.datamodule_class = self._datamodule_class = ImagesDataModule if predict else L.LightningDataModule
        self.subclass_mode_data = True
        parser = cast(Parser, super()._prepare_subcommand_parser(klass, subcommand, **kwargs))
        parser.usage = f"renoise {subcommand} [--config CONFIG] [options]"
        if predict:
            parser.usual_data = ImageFolderDataModule
            parser.set_defaults(PREDICT_DEFAULTS)
            parser.set_defaults({"data": {"class_path": ImageFolderDataModule.__name__}})
        return parser

    def before_instantiate_classes(self) -> None:
        """Leaves the saving of the configuration to the writer in `predict`: it knows whose folder it is."""
        if self.subcommand == "predict":
            self.save_config_callback = None

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Adds the writer to `predict`.

        Raises:
            InputError: the Trainer cannot be had like that.
        """
        if self.subcommand == "predict":
            options = self.config_init["predict"]["trainer"]
            configured = options["callbacks"] or []
            configured = configured if isinstance(configured, list) else [configured]
            self.writer = InversionWriter(self._settings())
            kwargs["callbacks"] = [*configured, self.writer]
            kwargs["default_root_dir"] = options["default_root_dir"] or self._default_folder()
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ImportError, TypeError, ValueError) as error:
            raise InputError(f"trainer: {' '.join(str(error).split())}") from error

    def _settings(self) -> dict[str, Any]:
        """All that the results depend on, in JSON's types."""
        self._dump_config()
        data = self.config_dump["data"]
        groups = {
            "model": self.config_dump["model"],
            "data": {"class_path": data["class_path"], **data["init_args"]},
        }
        settings = {
            f"{group}.{name}": _absolute(value) if name in PLACES else value
            for group, options in groups.items()
            for name, value in options.items()
            if name not in NOT_SETTINGS[group]
        }
        return settings | {"trainer.precision": self.config_dump["trainer"]["precision"]}

    def _default_folder(self) -> str:
        """`out/` and the name of the folder of images: other images go elsewhere without being told."""
        root = getattr(self.datamodule, "root", None)
        return str(Path("out", Path(root).resolve().name)) if root else "out"

    def after_predict(self) -> None:
        """Prints the summary; exits with 1 where no image came out, or where one failed under `--model.strict true`."""
        if not self.trainer.is_global_zero:
            return
        self.writer.report()
        images, failed = self.writer.summary["images"], self.writer.summary["failed"]
        if failed and (self.model.strict or failed == images):
            sys.exit(1)


def _absolute(value: Any) -> Any:
    """A path that exists in the one form that means it everywhere, a captioner's too; a hub id as it is."""
    if isinstance(value, dict):
        return value | {"checkpoint": _absolute(value["checkpoint"])}
    return os.path.realpath(value) if value is not None and os.path.exists(value) else value


def main(args: list[str] | None = None) -> None:
    """Runs the command line; `args` stands in for `sys.argv[1:]`.

    Mistakes in what the user gave end with one line on stderr and exit status 2.
    """
    _quieten_libraries()
    load_editors()  # their short names become valid in YAML
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)  # `${model.seed}` means predict's, or fit's
    try:
        ReNoiseCLI(
            args=args,
            parser_class=Parser,
            parser_kwargs={"parser_mode": "omegaconf+"},
            auto_configure_optimizers=False,
            seed_everything_default=False,  # `predict` draws nothing but from streams of `model.seed`
        )
    except (ValueError, OmegaConfBaseException) as error:
        print(f"error: {_mistake(error)}", file=sys.stderr)
        sys.exit(2)


def _mistake(error: Exception) -> str:
    """What the user shall read of an InputError, which jsonargparse may have wrapped; other errors are raised again."""
    if isinstance(error, OmegaConfBaseException):
        return " ".join(str(error).split())
    cause: BaseException | None = error
    while not isinstance(cause, InputError):
        if cause is None:
            raise error
        cause = cause.__cause__
    return str(cause)


def _quieten_libraries() -> None:
    """Leaves the screen to what concerns the user's images."""
    for library in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(library).setLevel(logging.WARNING)
    # But for the one who says which process died, before it ends the others.
    logging.getLogger("lightning.fabric.strategies.launchers.subprocess_script").setLevel(logging.INFO)
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    for message in (
        r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # among themselves
        "The `local_dir_use_symlinks` argument is deprecated",
        "Total length of `Prefetcher` across ranks is zero",  # where all is done already
        "Couldn't infer the batch indices fetched from your dataloader",  # batches know whose images they hold
    ):
        warnings.filterwarnings("ignore", message=message)
    warnings.formatwarning = _format_warning


_format_by_default = warnings.formatwarning


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A line for what concerns the user's images, without the place in the code that found it."""
    is_ours = issubclass(category, InputWarning)
    return f"warning: {message}\n" if is_ours else _format_by_default(message, category, filename, lineno, line)

"""The command line: LightningCLI with `predict` (inversion) and `fit` (the models that ship with the project)."""

from __future__ import annotations

import difflib
import logging
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

import diffusers
import lightning as L
import transformers
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from renoise.datamodules import ImageFolderDataModule
from renoise.editing import load_editors
from renoise.errors import InputError, InputWarning
from renoise.module import ReNoiseModule
from renoise.writer import InversionWriter

PREDICT_DEFAULTS = {
    "trainer.inference_mode": False,  # edits may need gradients, which inference mode forbids for good
    "trainer.use_distributed_sampler": False,  # the data modules share images among processes themselves
    "trainer.logger": False,
    "trainer.enable_checkpointing": False,
    "trainer.enable_model_summary": False,
    "return_predictions": False,
}
NOT_SETTINGS = {"model": {"strict", "overwrite"}, "data": {"batch_size", "num_workers"}}
"""Options that do not change what comes out for an image."""
UNKNOWN_OPTION = re.compile(r"(?:[Uu]nrecognized arguments: --|[Oo]ption '|Key ')([\w.]+)")
"""How jsonargparse's versions complain about an option that there is not."""


class Parser(LightningArgumentParser):
    """Errors that say what would have been right, without the usage that buries them."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Adds to a complaint about an unknown option or editor what there is.

        Raises:
            InputError: always, except inside of jsonargparse's own attempts (`exit_on_error` is false).
        """
        unknown = UNKNOWN_OPTION.search(message)
        if unknown:
            message += self._options(unknown[1])
        if not self.exit_on_error:
            super().error(message, ex)
        if "editors" in message and "class_path" in message:
            message += f"\nThe installed editors are: {', '.join(sorted(load_editors()))}"
        parser = getattr(ex, "subcommand_parser", None) or self
        raise InputError(f"{message}\n`{parser.prog.replace(' [options]', '')} --help` lists every option") from ex

    def _options(self, unknown: str) -> str:
        names = [action.dest for action in self._actions if action.option_strings]
        near = difflib.get_close_matches(unknown, names, n=1)
        group = [name for name in names if name.rpartition(".")[0] == unknown.rpartition(".")[0]]
        hint = f"\nDid you mean {near[0]}?" if near else ""
        return hint + (f"\nThere are: {', '.join(group)}" if group else "")


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
        self.datamodule_class = self._datamodule_class = L.LightningDataModule
        self.subclass_mode_data = True
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if predict:
            parser.set_defaults(PREDICT_DEFAULTS)
            parser.set_defaults({"data": {"class_path": ImageFolderDataModule.__name__}})
        return parser

    def before_instantiate_classes(self) -> None:
        """Leaves the saving of the configuration to the writer in `predict`: it knows whose folder it is."""
        if self.subcommand == "predict":
            self.save_config_callback = None

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Adds the writer to `predict`."""
        if self.subcommand == "predict":
            options = self.config_init["predict"]["trainer"]
            configured = options["callbacks"] or []
            configured = configured if isinstance(configured, list) else [configured]
            kwargs["callbacks"] = [*configured, InversionWriter(self._settings())]
            kwargs["default_root_dir"] = options["default_root_dir"] or self._default_folder()
        return super().instantiate_trainer(**kwargs)

    def _settings(self) -> dict[str, Any]:
        """All that the results depend on, in JSON's types."""
        self._dump_config()
        data = self.config_dump["data"]
        groups = {
            "model": self.config_dump["model"],
            "data": {"class_path": data["class_path"], **data["init_args"]},
        }
        settings = {
            f"{group}.{name}": _absolute(value) if name in ("root", "checkpoint") else value
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
        writer = next(callback for callback in self.trainer.callbacks if isinstance(callback, InversionWriter))
        writer.report()
        images, failed = writer.summary["images"], writer.summary["failed"]
        if failed and (self.model.strict or failed == images):
            sys.exit(1)


def _absolute(value: str) -> str:
    """A path that exists in the one form that means it everywhere; a hub id as it is."""
    return os.path.realpath(value) if os.path.exists(value) else value


def main(args: list[str] | None = None) -> None:
    """Runs the command line; `args` stands in for `sys.argv[1:]`.

    Mistakes in what the user gave end with one line on stderr and exit status 2.
    """
    _quieten_libraries()
    load_editors()  # their short names become valid in YAML
    try:
        ReNoiseCLI(
            args=args,
            parser_class=Parser,
            parser_kwargs={"parser_mode": "omegaconf+"},
            auto_configure_optimizers=False,
            seed_everything_default=False,  # `predict` draws nothing but from streams of `model.seed`
        )
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _quieten_libraries() -> None:
    """Leaves the screen to what concerns the user's images."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message="`isinstance\\(treespec, LeafSpec\\)` is deprecated")
    warnings.formatwarning = _format_warning


_format_by_default = warnings.formatwarning


def _format_warning(message: Warning | str, category: type[Warning], *where: Any) -> str:
    """A line for what concerns the user's images, without the place in the code that found it."""
    is_ours = issubclass(category, InputWarning)
    return f"warning: {message}\n" if is_ours else _format_by_default(message, category, *where)

"""The command line: `renoise predict` inverts images, `renoise presets` lists the presets."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import lightning as L
import transformers
from jsonargparse import set_parsing_settings
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from omegaconf.errors import OmegaConfBaseException

from renoise.core.edit_regularization import EditRegularization
from renoise.core.fixed_point import Solver
from renoise.core.noise_correction import NoiseCorrection
from renoise.core.renoise import AveragingWeights
from renoise.data import CaptionerConfig, ImageFolderDataModule, ImagesDataModule
from renoise.editing.base import Editor
from renoise.editing.discovery import load_editors
from renoise.errors import InputError, InputWarning, prefixed
from renoise.inversion.base import Inverter
from renoise.inversion.discovery import load_inverters
from renoise.inversion.null_text_optimization import NullTextOptimization
from renoise.inversion.renoise import ReNoise
from renoise.module import ReNoiseModule
from renoise.parser import Parser
from renoise.presets import describe_presets, preset_path
from renoise.writer import InversionWriter

TRAINER_DEFAULTS = {
    "inference_mode": False,  # editors may need gradients, which inference mode forbids
    "use_distributed_sampler": False,  # the data modules divide the images among processes themselves
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
}
DESCRIPTION = (
    "ReNoise finds the noise that a text-to-image diffusion model turns back into a photograph. "
    "`renoise predict` inverts, reconstructs and edits images. `renoise presets` lists the presets."
)
OPTION_PREFIXES = {
    ReNoiseModule: "model.",
    Inverter: "model.inversion.",
    Solver: "model.inversion.solver.",
    AveragingWeights: "model.inversion.averaging_weights.",
    EditRegularization: "model.inversion.regularization.",
    NoiseCorrection: "model.inversion.noise_correction.",
    NullTextOptimization: "model.inversion.optimization.",
    Editor: "model.editors: ",
    ImagesDataModule: "data.",
    CaptionerConfig: "data.captioner.",
    InversionWriter: "writer.",
}
"""What stands before the name of a constructor's argument on the command line."""


class PredictTrainer(L.Trainer):
    """A Trainer that keeps no predictions in memory: the writer writes them."""

    def predict(self, model: L.LightningModule, datamodule: L.LightningDataModule) -> None:  # type: ignore[override]
        """Runs the predict loop."""
        super().predict(model, datamodule=datamodule, return_predictions=False)


class ReNoiseCLI(LightningCLI):
    """Runs `ReNoiseModule` over a data module of images."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Returns the Trainer's methods that are commands, with the arguments that the CLI fills in."""
        return {"predict": {"model", "datamodule"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the writer's options and the defaults."""
        parser.add_lightning_class_args(InversionWriter, "writer")
        parser.set_defaults({"data": {"class_path": ImageFolderDataModule.__name__}})
        parser.set_defaults({"model.inversion": {"class_path": ReNoise.__name__}})
        parser.usage = "renoise predict [--preset NAME] [--config FILE] [options]"
        if isinstance(parser, Parser):
            parser.shown_classes = {"model.inversion": ReNoise, "data": ImageFolderDataModule}
        for kind, prefix in OPTION_PREFIXES.items():
            parser.add_instantiator(_instantiator(prefix), kind)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Makes the Trainer, by default with an output folder named after the folder of images.

        Raises:
            InputError: The Trainer rejects its options.
        """
        options = self.config_init["predict"]["trainer"]
        kwargs["default_root_dir"] = options["default_root_dir"] or self._default_folder()
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ImportError, TypeError, ValueError) as error:
            raise InputError(f"trainer: {' '.join(str(error).split())}") from error

    def _default_folder(self) -> str:
        root = getattr(self.datamodule, "root", None)
        return str(Path("out", Path(root).resolve().name)) if root else "out"

    def after_predict(self) -> None:
        """Prints the summary. Exits with 1 where every image failed, or where one did under `--writer.strict true`."""
        if not self.trainer.is_global_zero:
            return
        (writer,) = (each for each in self.trainer.callbacks if isinstance(each, InversionWriter))  # type: ignore[attr-defined]
        writer.report()
        images, failed = writer.summary["images"], writer.summary["failed"]
        if failed and (writer.strict or failed == images):
            sys.exit(1)


def _instantiator(prefix: str) -> Any:
    """Returns a function that makes an object, and puts the option before the message of a wrong argument."""

    def instantiate(kind: type, *args: Any, **kwargs: Any) -> Any:
        with prefixed(prefix, ValueError):
            return kind(*args, **kwargs)

    return instantiate


def main(args: list[str] | None = None) -> None:
    """Runs the command line. A mistake of the user ends with one line on stderr and exit status 2.

    Args:
        args: Take the place of `sys.argv[1:]`.
    """
    if (sys.argv[1:] if args is None else args)[:1] == ["presets"]:
        print_presets(describe_presets())
        return
    _quiet_libraries()
    load_editors()  # a class that is imported can be named in YAML without its module
    load_inverters()
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)  # `${model.seed}` means predict's
    try:
        if args is None:
            sys.argv[1:] = _with_presets(sys.argv[1:])  # in place, for the processes that Lightning starts with it
        else:
            args = _with_presets(args)
        ReNoiseCLI(
            ReNoiseModule,
            ImagesDataModule,
            args=args,
            trainer_class=PredictTrainer,
            trainer_defaults=TRAINER_DEFAULTS,
            subclass_mode_data=True,
            parser_class=Parser,
            parser_kwargs={"parser_mode": "omegaconf+", "description": DESCRIPTION},
            auto_configure_optimizers=False,
            save_config_callback=None,  # the writer saves the settings
            seed_everything_default=False,  # all random numbers depend on `model.seed`
        )
    except (ValueError, OmegaConfBaseException) as error:
        print(f"error: {_message(error)}", file=sys.stderr)
        sys.exit(2)


def print_presets(presets: Mapping[str, str]) -> None:
    """Prints the presets and how to use one."""
    width = max(map(len, presets), default=0)
    for name, description in presets.items():
        print(f"{name:<{width}}  {description}")
    print("\nrenoise predict --preset NAME --data.root FOLDER runs one; --print_config after it shows its settings.")


def _with_presets(arguments: list[str]) -> list[str]:
    """Replaces `--preset NAME` by `--config` and the preset's file."""
    replaced: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        option, equals, name = argument.partition("=")
        if option == "--preset":
            replaced += ["--config", str(preset_path(name if equals else next(remaining, "")))]
        else:
            replaced.append(argument)
    return replaced


def _message(error: Exception) -> str:
    """Returns the message of an InputError, which jsonargparse may have wrapped. Raises any other error again."""
    if isinstance(error, OmegaConfBaseException):
        return " ".join(str(error).split())
    cause: BaseException | None = error
    while not isinstance(cause, InputError):
        if cause is None:
            raise error
        cause = cause.__cause__
    return str(cause)


def _quiet_libraries() -> None:
    """Turns off messages of libraries that are not about the user's images."""
    for library in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(library).setLevel(logging.WARNING)
    # It says which process ended before it ends the others.
    logging.getLogger("lightning.fabric.strategies.launchers.subprocess_script").setLevel(logging.INFO)
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    for message in (
        r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # between two libraries
        "The `local_dir_use_symlinks` argument is deprecated",
        "Total length of `Prefetcher` across ranks is zero",  # every image is finished
        "Couldn't infer the batch indices fetched from your dataloader",  # batches hold their images' names
    ):
        warnings.filterwarnings("ignore", message=message)
    warnings.formatwarning = _format_warning


_default_format_warning = warnings.formatwarning


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Formats an InputWarning as one line without the place in the code, and other warnings as usual."""
    is_ours = issubclass(category, InputWarning)
    return f"warning: {message}\n" if is_ours else _default_format_warning(message, category, filename, lineno, line)

"""The command `renoise predict`, which inverts images."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import lightning as L
from jsonargparse import set_parsing_settings
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from omegaconf.errors import OmegaConfBaseException

from renoise.config_file import ConfigFile
from renoise.data import ImageFolderDataModule, ImagesDataModule
from renoise.editing.base import Editor
from renoise.editing.discovery import load_editors
from renoise.errors import InputError, prefixed
from renoise.help import HelpAll
from renoise.inversion.discovery import load_inverters
from renoise.inversion.renoise import ReNoise
from renoise.module import ReNoiseModule
from renoise.parser import CLASSES, Parser, check_spaces
from renoise.progress_bar import ProgressLines, StepProgressBar
from renoise.utils.launchers import check_srun, check_world_size, is_first_process
from renoise.utils.library_messages import quiet_libraries, quiet_loading
from renoise.utils.progress import is_terminal, show_progress, tqdm_bar
from renoise.writer import InversionWriter

TRAINER_DEFAULTS = {
    "inference_mode": False,  # editors may need gradients, which inference mode forbids
    "use_distributed_sampler": False,  # the data modules divide the images among processes themselves
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
}
OPTION_PREFIXES: dict[type, str] = {
    ReNoiseModule: "model.",
    InversionWriter: "writer.",
    **{kind: f"{option}." for option, kind in CLASSES.items()},
    Editor: "model.editors: ",
}
"""What stands before the name of a constructor's argument on the command line."""


SEED = "PL_GLOBAL_SEED"
"""Environment variable from which Lightning takes a seed."""


class PredictTrainer(L.Trainer):
    """A Trainer that keeps no predictions in memory: the writer writes them."""

    def predict(self, model: L.LightningModule, datamodule: L.LightningDataModule) -> None:  # type: ignore[override]
        """Runs the predict loop."""
        bar = self.progress_bar_callback
        shown = bar is not None and self.is_global_zero and is_terminal()
        quiet_loading(show_downloads=shown)
        with show_progress(shown, bar.track if isinstance(bar, StepProgressBar) else tqdm_bar):
            super().predict(model, datamodule=datamodule, return_predictions=False)


class ReNoiseCLI(LightningCLI):
    """Runs `ReNoiseModule` over a data module of images."""

    module_class: type[ReNoiseModule] = ReNoiseModule
    """What runs. A subclass of `ReNoiseCLI` may run another one, with the same options."""

    writer_class: type[L.Callback] = InversionWriter
    """What takes the results. Its constructor's arguments are the options of `--writer`."""

    examples: tuple[str, ...] = (
        "renoise predict --preset sdxl_turbo_fast --data.root photos/",
        "renoise predict --preset sd_fast --data.root photos/ --trainer.devices 4",
    )
    """Commands that the help shows."""

    config_file: type[SaveConfigCallback] | None = ConfigFile
    """What writes the options to the output folder."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Returns the Trainer's methods that are commands, with the arguments that the CLI fills in."""
        return {"predict": {"model", "datamodule"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the writer's options and the defaults."""
        parser.add_lightning_class_args(self.writer_class, "writer")
        parser.set_defaults({"data": {"class_path": ImageFolderDataModule.__name__}})
        parser.set_defaults({"model.inversion": {"class_path": ReNoise.__name__}})
        parser.usage = "renoise predict [--preset NAME] [--config FILE] [options]"
        parser.description = "Inverts, reconstructs and edits images, and measures the reconstructions."
        parser.add_argument("--help-all", action=HelpAll, help="Print this help and exit.")
        if isinstance(parser, Parser):
            parser.examples = self.examples
            parser.shown_classes = {"model.inversion": ReNoise, "data": ImageFolderDataModule}
        for kind, prefix in OPTION_PREFIXES.items():
            parser.add_instantiator(_instantiator(prefix), kind)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the command line, and checks that no other seed is given than the model's.

        Raises:
            InputError: There is one, which would have no effect.
        """
        super().parse_arguments(parser, args)
        given = {"seed_everything": self.config["predict"]["seed_everything"]}
        if args is None:  # the program, and not Python code that may have seeded other random numbers
            given[SEED] = os.environ.get(SEED)
        for name, seed in given.items():
            if seed is not None and seed is not False:
                raise InputError(
                    f"{name}: {seed} would have no effect, because all random numbers depend on model.seed and the "
                    "images' names; leave it out, and give --model.seed"
                )

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Makes the Trainer, by default with an output folder named after the folder of images, or after the picture.

        Raises:
            InputError: The Trainer rejects its options, or it does not know of all processes of the run.
        """
        options = self.config_init["predict"]["trainer"]
        given = options["callbacks"] or []
        callbacks = given if isinstance(given, list) else [given]
        if options["enable_progress_bar"] is not False and not any(isinstance(each, ProgressBar) for each in callbacks):
            kwargs["callbacks"] = [*callbacks, StepProgressBar() if is_terminal() else ProgressLines()]
        kwargs["default_root_dir"] = options["default_root_dir"] or self._default_folder()
        try:
            check_srun()
            trainer = super().instantiate_trainer(**kwargs)
            check_world_size(trainer.world_size)
            return trainer
        except InputError:
            if is_first_process():
                raise
            sys.exit(2)  # one line is enough for all processes
        except (MisconfigurationException, ImportError, TypeError, ValueError) as error:
            raise InputError(f"trainer: {' '.join(str(error).split())}") from error

    def _default_folder(self) -> str:
        root = getattr(self.datamodule, "root", None)
        if not root:
            return "out"
        path = Path(root).resolve()
        return str(Path("out", path.stem if path.is_file() else path.name))

    def after_predict(self) -> None:
        """Prints the summary. Exits with 1 where every image failed, or an image has no result.

        Under `--writer.strict true`, one failed image is enough.
        """
        if not self.trainer.is_global_zero:
            return
        (writer,) = (each for each in self.trainer.callbacks if isinstance(each, InversionWriter))  # type: ignore[attr-defined]
        writer.report()
        images, failed = writer.summary["images"], writer.summary["failed"]
        if writer.missing or (failed and (writer.strict or failed == images)):
            sys.exit(1)


def _instantiator(prefix: str) -> Any:
    """Returns a function that makes an object, and puts the option before the message of a wrong argument."""

    def instantiate(kind: type, *args: Any, **kwargs: Any) -> Any:
        with prefixed(prefix, ValueError):
            return kind(*args, **kwargs)

    return instantiate


def predict(args: list[str] | None = None, command_line: type[ReNoiseCLI] = ReNoiseCLI) -> ReNoiseCLI:
    """Runs `renoise predict`.

    Args:
        args: Take the place of `sys.argv[1:]`.
        command_line: What runs once the options are read. A subclass of `ReNoiseCLI` can do something else with them.

    Returns:
        The command line, with the module, the data module and the Trainer.

    Raises:
        InputError: A mistake of the user.
    """
    quiet_libraries()
    load_editors()  # a class that is imported can be named in YAML without its module
    load_inverters()
    check_spaces(sys.argv[1:] if args is None else args)
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)  # `${model.seed}` means predict's
    try:
        return command_line(
            command_line.module_class,
            ImagesDataModule,
            args=args,
            trainer_class=PredictTrainer,
            trainer_defaults=TRAINER_DEFAULTS,
            subclass_mode_data=True,
            parser_class=Parser,
            parser_kwargs={"parser_mode": "omegaconf+"},
            auto_configure_optimizers=False,
            save_config_callback=command_line.config_file,
            seed_everything_default=False,  # all random numbers depend on `model.seed`
        )
    except (ValueError, OmegaConfBaseException) as error:
        raise InputError(_message(error)) from error


def _message(error: Exception) -> str:
    """Returns the message of an InputError or of a missing package, which jsonargparse may have wrapped.

    Any other error is raised again.
    """
    if isinstance(error, OmegaConfBaseException):
        return " ".join(str(error).split())
    cause: BaseException | None = error
    while not isinstance(cause, (InputError, ModuleNotFoundError)):
        if cause is None:
            raise error
        cause = cause.__cause__
    return str(cause)

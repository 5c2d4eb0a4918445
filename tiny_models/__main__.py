"""Trains a shipped model: `python -m tiny_models fit --config configs/tiny_models/tiny_sd.yaml`."""

from __future__ import annotations

import lightning as L
from lightning.pytorch.cli import LightningCLI


class TrainingCLI(LightningCLI):
    """LightningCLI with `fit` as its only subcommand."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Returns `fit`, with the arguments of `Trainer.fit` that the command line fills in."""
        return {"fit": LightningCLI.subcommands()["fit"]}


def main(args: list[str] | None = None) -> None:
    """Runs the command line. `args` replaces `sys.argv[1:]`."""
    TrainingCLI(
        L.LightningModule,
        L.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
        parser_kwargs={"prog": "python -m tiny_models", "description": "Trains the models that ship with ReNoise."},
        args=args,
    )


if __name__ == "__main__":
    main()

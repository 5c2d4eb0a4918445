"""`config.yaml`: the options of a run, with which `renoise predict --config` repeats it."""

from __future__ import annotations

from pathlib import Path

import lightning as L
from lightning.pytorch.cli import SaveConfigCallback

from renoise.utils.files import write_atomically, writing_to

CONFIG = "config.yaml"


class ConfigFile(SaveConfigCallback):
    """Writes the options to the output folder, once the writer has accepted it."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Writes nothing yet: the folder may hold a run with other settings."""

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes the file, in the first process."""
        if trainer.is_global_zero:
            folder = Path(trainer.default_root_dir)
            with writing_to(folder):
                write_atomically(folder / CONFIG, self.parser.dump(self.config, skip_none=False).encode())

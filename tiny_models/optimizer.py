"""The optimizer and learning-rate schedule of all shipped models."""

from __future__ import annotations

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig


def one_cycle(module: L.LightningModule, learning_rate: float) -> OptimizerLRSchedulerConfig:
    """Returns AdamW over the trainable parameters, with a one-cycle learning rate over the whole run.

    Args:
        module: Attached to a trainer, which knows the number of steps.
        learning_rate: Peak of the cycle, after a tenth of the steps.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01)
    steps = int(module.trainer.estimated_stepping_batches)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def trapezoid(module: L.LightningModule, learning_rate: float) -> OptimizerLRSchedulerConfig:
    """Returns AdamW over the trainable parameters, with a learning rate that rises, stays, and falls to 0.

    The last three tenths of the run fall. Until then nothing depends on the run's length, so a run that continues a
    checkpoint may have another `max_steps`.

    Args:
        module: Attached to a trainer, which knows the number of steps.
        learning_rate: Highest, after 50 steps.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01)
    steps = int(module.trainer.estimated_stepping_batches)

    def share(step: int) -> float:
        return max(0.0, min(1.0, (step + 1) / 50, (steps - step) / (0.3 * steps)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

"""Programs that start the processes of a run: srun, torchrun and mpirun. Without one, Lightning starts them."""

from __future__ import annotations

import os
from collections.abc import Mapping

from renoise.errors import InputError

INTERACTIVE = {"bash", "interactive"}
"""Names of SLURM jobs in which a person types commands. Lightning does not look at SLURM's variables there."""
RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "LOCAL_RANK", "SLURM_PROCID")
"""Variables with the rank of this process. A process that Lightning starts inherits SLURM's, which is not its own."""


def is_first_process(environment: Mapping[str, str] = os.environ) -> bool:
    """Returns whether this process speaks for all, by the variables that it was started with.

    Args:
        environment: The environment variables.
    """
    return next((environment[name] for name in RANKS if name in environment), "0") == "0"


def check_srun(environment: Mapping[str, str] = os.environ) -> None:
    """Checks that a SLURM job of several tasks was started by `srun`. Otherwise Lightning waits for the others forever.

    Args:
        environment: The environment variables.

    Raises:
        InputError: It was not, or it says how many tasks there are, but not how many on each machine.
    """
    tasks = environment.get("SLURM_NTASKS", "1")
    if not _is_slurm(environment) or tasks == "1":
        return
    if "SLURM_STEP_ID" not in environment:
        raise InputError(
            f"SLURM has reserved {tasks} tasks (SLURM_NTASKS) and srun has not started them; put srun before the "
            "command, or run `unset SLURM_NTASKS` before it to use one task"
        )
    if "SLURM_NTASKS_PER_NODE" not in environment:
        raise InputError(
            f"SLURM has reserved {tasks} tasks (SLURM_NTASKS), and Lightning needs to know how many on each machine; "
            "give sbatch or srun --ntasks-per-node in place of --ntasks, or run `unset SLURM_NTASKS` to use one task"
        )


def check_world_size(world_size: int, environment: Mapping[str, str] = os.environ) -> None:
    """Checks that the Trainer knows of all processes that were started. Otherwise each would do all images.

    Args:
        world_size: The number of processes that the Trainer knows of.
        environment: The environment variables.

    Raises:
        InputError: It does not.
    """
    launcher, started = "", "1"
    if _is_slurm(environment) and "SLURM_STEP_ID" in environment:
        launcher, started = "srun", environment.get("SLURM_STEP_NUM_TASKS", environment.get("SLURM_NTASKS", "1"))
    elif "TORCHELASTIC_RUN_ID" in environment:
        launcher, started = "torchrun", environment.get("WORLD_SIZE", "1")
    elif "OMPI_COMM_WORLD_SIZE" in environment:
        launcher, started = "mpirun", environment["OMPI_COMM_WORLD_SIZE"]
    if started != "1" and started != str(world_size):
        raise InputError(
            f"trainer: {launcher} has started {started} processes and the Trainer is set to {world_size}; set "
            "--trainer.strategy ddp, --trainer.devices to the processes of each machine and --trainer.num_nodes to the "
            "number of machines"
        )


def _is_slurm(environment: Mapping[str, str]) -> bool:
    return "SLURM_NTASKS" in environment and environment.get("SLURM_JOB_NAME") not in INTERACTIVE

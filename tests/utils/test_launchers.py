from __future__ import annotations

import pytest

from renoise.errors import InputError
from renoise.utils.launchers import check_srun, check_world_size, is_first_process

SBATCH = {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "job.sh", "SLURM_PROCID": "0", "SLURM_JOB_ID": "7"}
SRUN = SBATCH | {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}


def test_slurm_tasks_that_srun_has_not_started_are_one_line() -> None:
    with pytest.raises(InputError, match=r"^SLURM has reserved 2 tasks .* put srun before the command, or") as caught:
        check_srun(SBATCH)
    assert "\n" not in str(caught.value)


def test_slurm_tasks_without_their_number_on_each_machine_are_one_line() -> None:
    without = {name: value for name, value in SRUN.items() if name != "SLURM_NTASKS_PER_NODE"}
    with pytest.raises(InputError, match=r"^SLURM has reserved 2 tasks .* --ntasks-per-node in place of --ntasks"):
        check_srun(without)


@pytest.mark.parametrize(
    "environment",
    [{}, SRUN, SBATCH | {"SLURM_NTASKS": "1"}, SBATCH | {"SLURM_JOB_NAME": "bash"}, {"SLURM_JOB_ID": "7"}],
)
def test_other_environments_are_allowed(environment: dict[str, str]) -> None:
    check_srun(environment)


@pytest.mark.parametrize(
    ("launcher", "environment"),
    [
        ("srun", SRUN),
        ("torchrun", {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2"}),
        ("mpirun", {"OMPI_COMM_WORLD_SIZE": "2"}),
    ],
)
def test_several_processes_that_the_trainer_does_not_know_of_are_refused(
    launcher: str, environment: dict[str, str]
) -> None:
    with pytest.raises(
        InputError, match=rf"^trainer: {launcher} has started 2 processes and the Trainer is set to 1; set"
    ):
        check_world_size(1, environment)
    check_world_size(2, environment)


def test_processes_that_lightning_starts_are_no_launcher_s() -> None:
    check_world_size(2, {"WORLD_SIZE": "2", "LOCAL_RANK": "1"})
    check_world_size(4, SBATCH | {"SLURM_JOB_NAME": "interactive"})


@pytest.mark.parametrize(
    ("environment", "first"),
    [({}, True), ({"LOCAL_RANK": "1"}, False), ({"RANK": "8", "LOCAL_RANK": "0"}, False), (SRUN, True)],
)
def test_one_process_speaks_for_all(environment: dict[str, str], first: bool) -> None:
    assert is_first_process(environment) is first

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.runs import free_port

from renoise.errors import InputError
from renoise.utils.distributed import all_gather, barrier, broadcast, check_parent, raise_together

PROGRAM = """
import json, os, sys
from datetime import timedelta

import torch.distributed as dist

from renoise.errors import InputError
from renoise.utils.distributed import all_gather, barrier, broadcast, check_parent, raise_together

dist.init_process_group("gloo", timeout=timedelta(seconds=60))
rank = dist.get_rank()
seen = {"gathered": all_gather(f"I am {rank}"), "broadcast": broadcast({"rank": rank})}
check_parent()
barrier()
with raise_together():
    seen["passed"] = True
try:
    with raise_together():
        if rank in json.loads(sys.argv[1]):
            raise InputError(f"{rank} cannot")
except InputError as error:
    seen["error"] = str(error)
except SystemExit as end:
    seen["status"] = end.code
print(json.dumps(seen), flush=True)
if rank == 1:
    os._exit(9)
for wait in (barrier, lambda: all_gather(None)):
    try:
        wait()
    except InputError as error:
        print(str(error), flush=True)
"""


def run_two_processes(tmp_path: Path, failing_ranks: list[int]) -> tuple[list[dict[str, Any]], list[str]]:
    """Returns what each process has seen, and what the first one prints after the second has died."""
    (tmp_path / "program.py").write_text(PROGRAM)
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, str(tmp_path / "program.py"), json.dumps(failing_ranks)],
            env=os.environ | shared | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    first, second = (process.communicate(timeout=120)[0].splitlines() for process in running)
    return [json.loads(first[0]), json.loads(second[0])], first[1:]


def test_processes_exchange_values_and_end_together_and_notice_a_death(tmp_path: Path) -> None:
    (first, second), last_lines = run_two_processes(tmp_path, failing_ranks=[1])
    for seen in (first, second):
        assert seen["gathered"] == ["I am 0", "I am 1"]
        assert seen["broadcast"] == {"rank": 0}
        assert seen["passed"]
    assert first["error"] == f"process 1 of 2, on {socket.gethostname()}: 1 cannot"
    assert second["status"] == 2, "one process reports the error, all end"
    assert len(last_lines) == 2, "barrier and all_gather notice a death instead of waiting"
    assert all("another process of this run has ended" in line for line in last_lines)


def test_an_error_of_every_process_is_reported_once_and_unchanged(tmp_path: Path) -> None:
    (first, second), _ = run_two_processes(tmp_path, failing_ranks=[0, 1])
    assert first["error"] == "0 cannot"
    assert second["status"] == 2


WAITING = """
import sys, time
from datetime import timedelta

import torch.distributed as dist

from renoise.utils import distributed

distributed.NOTICE_AFTER = 1.0
dist.init_process_group("gloo", timeout=timedelta(seconds=60))
distributed.barrier()
if dist.get_rank() == int(sys.argv[1]):
    print("here", flush=True)
    sys.stdin.readline()
distributed.barrier()
"""


@pytest.mark.parametrize("stopped", [0, 1])
def test_a_process_that_is_stopped_is_named_by_the_one_that_waits(tmp_path: Path, stopped: int) -> None:
    (tmp_path / "program.py").write_text(WAITING)
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, str(tmp_path / "program.py"), str(stopped)],
            env=os.environ | shared | {"RANK": str(rank)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    late, waiting = running[stopped], running[1 - stopped]
    assert late.stdout is not None
    assert waiting.stderr is not None
    assert late.stdout.readline() == "here\n"
    os.kill(late.pid, signal.SIGSTOP)
    told = next(line for line in waiting.stderr if line.startswith("has waited "))
    assert f" minutes for process {stopped} of 2" in told
    os.kill(late.pid, signal.SIGCONT)
    late.communicate("go on\n", timeout=60)
    waiting.communicate(timeout=60)
    assert [process.returncode for process in running] == [0, 0]


def test_a_process_that_runs_alone_gets_its_own_value() -> None:
    assert all_gather(3) == [3]
    assert broadcast("x") == "x"
    barrier()
    check_parent()
    with pytest.raises(InputError, match="wrong"), raise_together():
        raise InputError("wrong")
    with raise_together():
        pass

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.runs import free_port

from renoise.errors import InputError
from renoise.utils.distributed import all_gather, broadcast, check_starter, raise_together

PROGRAM = """
import json, os, sys
from datetime import timedelta

import torch.distributed as dist

from renoise.errors import InputError
from renoise.utils.distributed import check_starter, raise_together, all_gather, broadcast

dist.init_process_group("gloo", timeout=timedelta(seconds=60))
rank = dist.get_rank()
told = {"everybody": all_gather(f"I am {rank}"), "first": broadcast({"rank": rank})}
check_starter()
with raise_together():
    told["agreed"] = True
try:
    with raise_together():
        if rank in json.loads(sys.argv[1]):
            raise InputError(f"{rank} cannot")
except InputError as error:
    told["error"] = str(error)
except SystemExit as end:
    told["status"] = end.code
print(json.dumps(told), flush=True)
if rank == 1:
    os._exit(9)
try:
    all_gather(None)
except InputError as error:
    print(str(error), flush=True)
"""


def told(tmp_path: Path, wrong: list[int]) -> tuple[list[dict[str, Any]], str]:
    """What two processes found out, and what the first says after the second has died."""
    (tmp_path / "program.py").write_text(PROGRAM)
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, str(tmp_path / "program.py"), json.dumps(wrong)],
            env=os.environ | shared | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    first, second = (process.communicate(timeout=120)[0].splitlines() for process in running)
    return [json.loads(first[0]), json.loads(second[0])], first[1]


def test_processes_hear_each_other_and_end_together(tmp_path: Path) -> None:
    (first, second), last_words = told(tmp_path, wrong=[1])
    for heard in (first, second):
        assert heard["everybody"] == ["I am 0", "I am 1"]
        assert heard["first"] == {"rank": 0}
        assert heard["agreed"]
    assert first["error"] == f"process 1 of 2, on {socket.gethostname()}: 1 cannot"
    assert second["status"] == 2, "one of them speaks, all end"
    assert "another process of this run has ended" in last_words, "a death is noticed, not waited for"


def test_what_goes_wrong_everywhere_is_said_once_as_it_is(tmp_path: Path) -> None:
    (first, second), _ = told(tmp_path, wrong=[0, 1])
    assert first["error"] == "0 cannot"
    assert second["status"] == 2


def test_a_process_alone_asks_nobody() -> None:
    assert all_gather(3) == [3]
    assert broadcast("x") == "x"
    check_starter()
    with pytest.raises(InputError, match="wrong"), raise_together():
        raise InputError("wrong")
    with raise_together():
        pass

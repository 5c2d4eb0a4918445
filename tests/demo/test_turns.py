from __future__ import annotations

import time
from collections.abc import Callable, Generator
from threading import Event
from typing import Any

import pytest

from renoise.demo.turns import Progress, StoppedError, Task, Turns
from renoise.errors import InputError
from renoise.utils.progress import show_progress, track

Finish = Callable[[Generator[Progress, None, Any]], Any]


def test_a_task_tells_its_steps_and_returns_its_result(finish: Finish) -> None:
    seen: list[int] = []

    def work() -> str:
        with show_progress():  # as `InversionPipeline.invert` does: the bar outside is kept
            for step in track(range(3), "inverting"):
                seen.append(step)
                time.sleep(0.05)
        return "done"

    told: list[Progress] = []

    def listen() -> Generator[Progress, None, str]:
        task = Turns().run(work, Task())
        while True:
            try:
                told.append(next(task))
            except StopIteration as end:
                return str(end.value)
            yield told[-1]

    assert (finish(listen()), seen) == ("done", [0, 1, 2])
    assert Progress("inverting", 1, 3) in told


def test_a_task_that_is_stopped_ends_after_its_step_and_frees_the_model(finish: Finish) -> None:
    turns, task, steps = Turns(), Task(), []

    def work() -> None:
        for step in track(range(1000), "inverting"):
            steps.append(step)
            task.stop.set()

    with pytest.raises(StoppedError):
        finish(turns.run(work, task))
    assert steps == [0]
    assert finish(turns.run(lambda: "next", Task())) == "next"


def test_closing_a_task_which_a_visitor_who_leaves_does_frees_the_model(finish: Finish) -> None:
    turns, task = Turns(), Task()

    def work() -> None:
        for _ in track(range(1000), "inverting"):
            time.sleep(0.01)

    running = turns.run(work, task)
    next(running)
    running.close()
    assert task.ended.wait(5)
    assert finish(turns.run(lambda: "next", Task())) == "next"


def test_only_one_task_has_the_model_and_one_that_waits_can_be_stopped(finish: Finish) -> None:
    turns, inside, leave = Turns(), Event(), Event()

    def work() -> None:
        inside.set()
        assert leave.wait(5)

    first = turns.run(work, Task())
    next(first)
    assert inside.wait(5)
    began, waiting = [], Task()
    second = turns.run(lambda: began.append(1), waiting)
    assert next(second).description == "waiting for the model"
    waiting.stop.set()
    with pytest.raises(StoppedError):
        finish(second)
    leave.set()
    finish(first)
    assert began == []


def test_a_task_that_takes_too_long_is_stopped_with_a_reason(finish: Finish) -> None:
    def work() -> None:
        for _ in track(range(1000), "inverting"):
            time.sleep(0.01)

    with pytest.raises(InputError, match=r"this took longer than 0.001 minutes"):
        finish(Turns(max_seconds=0.06).run(work, Task()))


def test_what_a_task_raises_is_raised_for_its_visitor_and_the_model_is_free(finish: Finish) -> None:
    turns = Turns()
    with pytest.raises(ZeroDivisionError):
        finish(turns.run(lambda: 1 // 0, Task()))
    assert finish(turns.run(lambda: "next", Task())) == "next"

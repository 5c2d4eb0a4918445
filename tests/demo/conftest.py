from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from helpers.demo import MODEL, REPOSITORY

from renoise.demo.studio import Studio
from renoise.demo.turns import Progress
from renoise.demo.visitor import Visitor
from renoise.one_image.options import ModelOptions


@pytest.fixture(scope="session")
def studio() -> Studio:
    """The shipped few-step model, as `renoise demo` loads it in the folder of the repository."""
    from renoise.demo.studio import open_studio

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        return open_studio(ModelOptions("sdxl_turbo_fast", MODEL, is_default=False))


@pytest.fixture
def visitor(studio: Studio, tmp_path: Path) -> Visitor:
    return Visitor(studio, tmp_path / "visitors/one")


@pytest.fixture(scope="session")
def finish() -> Callable[[Generator[Progress, None, Any]], Any]:
    """`finish(task)` runs a task to its end and returns its result."""

    def run(task: Generator[Progress, None, Any]) -> Any:
        while True:
            try:
                next(task)
            except StopIteration as end:
                return end.value

    return run

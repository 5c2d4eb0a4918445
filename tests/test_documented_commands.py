"""Every command of the documents that no other test runs is one that its parser accepts."""

from __future__ import annotations

import re
import runpy
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_readme import DOCUMENTS as RUN

from renoise.cli import _with_presets
from renoise.evaluation.options import parse

REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "benchmarks/README.md"]
DOCUMENTS += sorted(path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "docs").rglob("*.md"))
OTHERWISE = {*RUN, "docs/edit.md", "docs/plugins.md"}
"""Documents whose `predict` commands are run by other tests."""


def commands(program: str) -> dict[str, str]:
    """The commands of a program in bash blocks, without its name, by themselves, with their document."""
    found: dict[str, str] = {}
    for document in DOCUMENTS:
        text = (REPOSITORY / document).read_text(encoding="utf-8")
        for block in re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            lines = block.replace("\\\n", " ").replace(" && ", "\n").splitlines()
            found |= {line.removeprefix(program): document for line in lines if line.startswith(program)}
    return found


@pytest.fixture(autouse=True)
def repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)


PREDICT = [command for command, document in commands("renoise predict ").items() if document not in OTHERWISE]


@pytest.mark.parametrize("command", PREDICT)
def test_predict_accepts_it(command: str, run_cli: Callable[..., Any]) -> None:
    run = run_cli("predict", *shlex.split(command), "--print_config")
    assert (run.status, run.err) == (0, "")


@pytest.mark.parametrize("command", commands("renoise advise "))
def test_advise_accepts_it(command: str, run_cli: Callable[..., Any]) -> None:
    run = run_cli("advise", *shlex.split(command), "--print_config")
    assert (run.status, run.err) == (0, "")


@pytest.mark.parametrize("command", commands("renoise evaluate "))
def test_evaluate_accepts_it(
    command: str, run_cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "my_suite.yaml" in command:
        (suite,) = re.findall(r"```yaml\n(.*?)```", Path("docs/evaluation.md").read_text(encoding="utf-8"), re.DOTALL)
        (tmp_path / "my_suite.yaml").write_text(suite)
        command = command.replace("my_suite.yaml", str(tmp_path / "my_suite.yaml"))
    options = parse(_with_presets(shlex.split(command)))
    run = run_cli("predict", *options.predict, "--print_config")
    assert (run.status, run.err) == (0, "")


@pytest.mark.parametrize("command", commands("python -m benchmarks."))
def test_the_benchmark_accepts_it(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, *arguments = shlex.split(command, comments=True)
    monkeypatch.setattr("sys.argv", [module, *arguments, "--print_config"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module(f"benchmarks.{module}", run_name="__main__")
    assert end.value.code == 0


def test_commands_are_found() -> None:
    assert len(PREDICT) >= 3
    assert len(commands("renoise evaluate ")) > 3
    assert len(commands("python -m benchmarks.")) > 6

"""The files in .github: workflows, issue forms and the configuration of dependabot."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

GITHUB = Path(__file__).resolve().parents[1] / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
ISSUE_FORMS = sorted(set((GITHUB / "ISSUE_TEMPLATE").glob("*.yml")) - {GITHUB / "ISSUE_TEMPLATE/config.yml"})
VERSION = re.compile(r"[\w.-]+/[\w.-]+@(release/)?v\d+")
"""An action at a major version, as in `actions/checkout@v5`."""


def read(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def steps(workflow: Path) -> list[dict[str, Any]]:
    return [step for job in read(workflow)["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_to_major_versions(workflow: Path) -> None:
    actions = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert actions
    assert all(VERSION.fullmatch(action) for action in actions)


def test_the_ci_workflow_calls_the_ci_script() -> None:
    assert {"run": ".ci/run"} in steps(GITHUB / "workflows/ci.yml")


@pytest.mark.parametrize("form", ISSUE_FORMS, ids=lambda path: path.stem)
def test_issue_forms_have_the_keys_that_github_requires(form: Path) -> None:
    content = read(form)
    assert {"name", "description", "body"} <= content.keys()
    for field in content["body"]:
        assert {"type", "id", "attributes"} <= field.keys()
        assert field["attributes"]["label"]


def test_dependabot_watches_the_actions_and_the_dependencies() -> None:
    ecosystems = {update["package-ecosystem"] for update in read(GITHUB / "dependabot.yml")["updates"]}
    assert ecosystems == {"github-actions", "pip"}

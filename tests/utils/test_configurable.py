from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser

from renoise.utils.configurable import Configurable, describe


class Part(Configurable):
    def __init__(self, size: int = 1, *, name: str = "part") -> None:
        self.size, self.name = size, name


class LargePart(Part):
    def __init__(self, weight: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.weight = weight


class Layer(Configurable, torch.nn.Linear):
    def __init__(self, inputs: int, outputs: int = 2) -> None:
        super().__init__(inputs, outputs)


@dataclass(frozen=True)
class FrozenPart(Configurable):
    size: int = 1


@dataclass
class Weights:
    below: list[float]
    part: Part | None = None


def test_arguments_are_kept_by_name_with_their_defaults() -> None:
    assert Part().init_args == {"size": 1, "name": "part"}
    assert Part(3, name="a").init_args == {"size": 3, "name": "a"}


def test_arguments_passed_on_to_a_base_class_are_kept_flat() -> None:
    assert LargePart(2.5, size=3).init_args == {"weight": 2.5, "size": 3}


def test_changing_an_attribute_does_not_change_the_arguments() -> None:
    part = Part(3)
    part.size = 4
    assert part.init_args["size"] == 3


@pytest.mark.parametrize(("part", "init_args"), [(Layer(3), {"inputs": 3, "outputs": 2}), (FrozenPart(2), {"size": 2})])
def test_torch_modules_and_frozen_dataclasses_can_be_configurable(part: Configurable, init_args: Any) -> None:
    assert part.init_args == init_args
    assert copy.deepcopy(part).init_args == init_args


def test_a_wrong_argument_is_the_usual_type_error() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'sizes'"):
        Part(sizes=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'weight'"):
        LargePart()  # type: ignore[call-arg]


def test_a_class_without_a_constructor_has_no_options() -> None:
    class Plain(Configurable):
        """Has none."""

    assert Plain().init_args == {}
    with pytest.raises(TypeError, match="too many positional arguments"):
        Plain(3)  # type: ignore[call-arg]


def test_a_description_has_only_json_types() -> None:
    described = describe({"weights": Weights([0.5], LargePart(1.0)), "path": Path("a/b"), "pair": (1, None), 3: True})
    part = {"class_path": f"{__name__}.LargePart", "init_args": {"weight": 1.0}}
    assert described == {"weights": {"below": [0.5], "part": part}, "path": "a/b", "pair": [1, None], "3": True}
    assert json.loads(json.dumps(described)) == described


def test_the_command_line_makes_an_object_again_from_its_description() -> None:
    parser = ArgumentParser()
    parser.add_argument("--part", type=Part)
    options = parser.parse_object({"part": describe(LargePart(2.5, size=3))})
    made = parser.instantiate(options).part
    assert (type(made), made.weight, made.size, made.name) == (LargePart, 2.5, 3, "part")
    assert made.init_args == {"weight": 2.5, "size": 3, "name": "part"}

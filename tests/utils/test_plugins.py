from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Callable
from importlib.metadata import EntryPoint

import pytest

from renoise.errors import InputWarning
from renoise.utils import plugins
from renoise.utils.plugins import load_plugins


class Base:
    pass


class One(Base):
    pass


class Two(Base):
    pass


OtherOne = type("One", (Base,), {})


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`install(a="module:Name", …)` registers these entry points under the group "group"."""
    module = types.ModuleType("somebodys_package")
    vars(module).update(One=One, Two=Two, OtherOne=OtherOne, number=3, Stranger=int)
    monkeypatch.setitem(sys.modules, "somebodys_package", module)

    def register(**values: str) -> None:
        registered = [EntryPoint(name, value, "group") for name, value in values.items()]
        monkeypatch.setattr(plugins, "entry_points", lambda group: registered if group == "group" else [])

    return register


def test_registered_classes_are_found_by_their_class_names(install: Callable[..., None]) -> None:
    install(first="somebodys_package:One", second="somebodys_package:Two", again="somebodys_package:One")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_plugins("group", Base) == {"One": One, "Two": Two}
        assert load_plugins("another group", Base) == {}


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("somebodys_package:Missing", "cannot be imported: .*Missing"),
        ("no_such_package:One", "cannot be imported: No module named 'no_such_package'"),
        ("somebodys_package:number", r"is not a subclass of .*\.Base"),
        ("somebodys_package:Stranger", r"is not a subclass of .*\.Base"),
        ("somebodys_package:OtherOne", "is left out, because another class is called One; use full class paths"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_left_out_with_a_warning(
    install: Callable[..., None], value: str, problem: str
) -> None:
    install(good="somebodys_package:One", bad=value, two="somebodys_package:Two")
    with pytest.warns(InputWarning, match=rf"group: bad \({value}\) {problem}"):
        assert load_plugins("group", Base) == {"One": One, "Two": Two}

"""The parser of the command line: messages that say what would have been right, and the help.

It reads the text of jsonargparse's messages, so pyproject.toml allows only versions whose texts are tested.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import yaml
from lightning.pytorch.cli import LightningArgumentParser

from renoise.core.edit_regularization import EditRegularization
from renoise.core.fixed_point import Solver
from renoise.core.noise_correction import NoiseCorrection
from renoise.core.renoise import AveragingWeights
from renoise.data import CaptionerConfig, ImagesDataModule
from renoise.editing.base import Editor
from renoise.editing.discovery import load_editors
from renoise.errors import InputError
from renoise.help import short_help
from renoise.inversion.base import Inverter
from renoise.inversion.discovery import load_inverters
from renoise.inversion.null_text_optimization import NullTextOptimization

NOT_OPTIONS = {"help", "config", "print_config", "print_shtab"}
UNKNOWN_OPTION = re.compile(
    r"(?:unrecognized arguments: --|(?:Subcommand '\w+'|Group '(?P<group>[\w.]+)') does not accept option '|Option ')"
    r"(?:predict\.)?(?P<name>[\w.]+)",
    re.IGNORECASE,
)
"""jsonargparse's message about an unknown option."""
OPTION = re.compile(r'Parser key "(?P<name>[\w.]+)":')
"""jsonargparse's name of an option, one for each level that it is nested in."""
INTERNAL_LINES = re.compile(
    r"^[ -]*(?:Does not validate against|Subtypes:|Errors:|Expected a <class 'NoneType'>|Expected a path"
    r"|Given value type|Given value: (?:NestedArg\(|Namespace\(|\{)).*\n?",
    re.MULTILINE,
)
"""Lines of jsonargparse's messages about its own types."""
PLAIN_WORDS = {
    r"Not a valid subclass of \w+\n *Subclass types expect one of:\n(?: *- .*\n)*? *- .*\(implicit class_path\)": (
        "expected a class or a mapping"
    ),
    r"Expected a <class '(?:\w+\.)*(\w+)'>": r"expected type \1",
    r"Expected a typing\.Literal\[(.*?)\]": r"expected one of \1",
    r"Expected a dot import path string: (.*)(?:\n *Given value: \1)?": r"'\1' is neither a class nor a mapping",
    r"\.?\s+(?:Got|Given) value: ": ", got ",
    r"required: predict\.": "required: ",
    r"Subcommand 'predict' does not accept option '([\w.]+)'": r"\1: there is no such option",
    r"argument subcommand: invalid choice: ('.*?') .*": r"there is no command \1; see renoise --help",
    r"Problem with given class_path '([\w.]+)':\s*": r"\1: ",
}
"""jsonargparse's words and those that replace them."""
NO_SUCH_CLASS = re.compile(
    r"is neither a class|expected a class|Import path does not correspond|No module named|has no attribute"
    r"|expected type Sequence"
)
"""Messages about a class that does not exist, in plain words."""
CLASSES: dict[str, type] = {
    "data": ImagesDataModule,
    "data.captioner": CaptionerConfig,
    "model.editors": Editor,
    "model.inversion": Inverter,
    "model.inversion.solver": Solver,
    "model.inversion.averaging_weights": AveragingWeights,
    "model.inversion.regularization": EditRegularization,
    "model.inversion.noise_correction": NoiseCorrection,
    "model.inversion.optimization": NullTextOptimization,
}
"""Options that take an object, and its class or the base class of all that they take."""
MAX_LISTED_OPTIONS = 24
"""Larger groups of options, such as `trainer`, are not listed in a message."""


class Parser(LightningArgumentParser):
    """A parser whose messages list the alternatives and leave out the usage.

    Every message is one line. It begins with the full name of the option that has a wrong value.
    """

    shown_classes: Mapping[str, type] | None = None
    """Classes whose options the help shows, by option. jsonargparse shows them for `--data.help` only."""

    examples: Sequence[str] = ()
    """Commands that the help shows."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # With abbreviations, a shortened option would be taken for another that begins with it.
        super().__init__(*args, **{"allow_abbrev": False} | kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Adds the alternatives to a message.

        Raises:
            InputError: Always, except inside attempts of jsonargparse's own (`exit_on_error` is false).
        """
        unknown = UNKNOWN_OPTION.match(message)
        if unknown:
            name = ".".join(filter(None, (unknown["group"], unknown["name"])))
            message += _alternatives(name, getattr(ex, "subcommand_parser", None) or self)
        if not self.exit_on_error:
            super().error(message, ex)
        option, message = _one_line(message)
        kind = CLASSES.get(option.replace(".path", ""))  # `path` is another inversion method, with the same options
        if kind is not None and NO_SUCH_CLASS.search(message):
            message += _what_there_is(kind)
        if 'expected "subcommand"' in message:
            message = "give a command, such as `renoise predict`; see renoise --help"
        raise InputError(message) from ex

    def format_help(self, *args: Any) -> str:
        """Returns the options of `renoise predict` in short. Other parsers keep jsonargparse's help."""
        if self.shown_classes is None:
            text: str = super().format_help(*args)
            return text
        return short_help(self)


def check_spaces(arguments: Sequence[str]) -> None:
    """Checks that mappings on the command line have a space after each colon, without which YAML sees no value.

    Args:
        arguments: Of the command line.

    Raises:
        InputError: One has not.
    """
    option = ""
    for argument in arguments:
        name, equals, value = argument.partition("=") if argument.startswith("--") else (option, "=", argument)
        option = name
        if equals and value.lstrip().startswith(("{", "[")):
            for key in _keys_without_value(value):
                wrong, right = key, key.replace(":", ": ", 1)
                raise InputError(f"{name.lstrip('-')}: {wrong!r} has no space after its colon; write {right!r}")


def _keys_without_value(text: str) -> Iterator[str]:
    """Yields keys such as `class_path:DDIM` of a YAML mapping. There are none in text that is not YAML."""
    try:
        parts = [yaml.safe_load(text)]
    except yaml.YAMLError:
        return  # jsonargparse has a message about it
    for part in parts:  # grows
        if isinstance(part, list):
            parts += part
        elif isinstance(part, dict):
            parts += part.values()
            yield from (key for key, value in part.items() if isinstance(key, str) and ":" in key and value is None)


def _what_there_is(kind: type) -> str:
    """Returns the end of a message about an option that takes an object of this kind."""
    if dataclasses.is_dataclass(kind):
        return f". Give a mapping of its options: {', '.join(field.name for field in dataclasses.fields(kind))}"
    if kind is Editor:
        names = list(load_editors())
    elif kind is Inverter:
        names = list(load_inverters())
    else:
        subclasses: list[type] = kind.__subclasses__()
        names = [subclass.__name__ for subclass in subclasses]
    return f". There are: {', '.join(sorted(names))}; or give the class path of another"


def _one_line(message: str) -> tuple[str, str]:
    """Returns the full name of the option that a message of jsonargparse is about, and the message in one line."""
    options = list(OPTION.finditer(message))
    text = INTERNAL_LINES.sub("", message[options[-1].end() :] if options else message)
    for pattern, words in PLAIN_WORDS.items():
        text = re.sub(pattern, words, text)
    sentences = [line.strip(" -").rstrip(".") for line in text.splitlines()]
    option = ".".join(match["name"] for match in options)
    return option, ": ".join(filter(None, (option, ". ".join(filter(None, sentences)).replace("?.", "?"))))


def _alternatives(unknown: str, parser: LightningArgumentParser) -> str:
    """Returns the closest option, and all of its group where they are few."""
    names = [action.dest for action in parser._actions if action.dest.split(".")[-1] not in NOT_OPTIONS]
    prefix, _, last = unknown.rpartition(".")
    group = {name.rpartition(".")[2]: name for name in names if name.rpartition(".")[0] == prefix}
    near = [group[name] for name in difflib.get_close_matches(last, group, n=1)]
    near = near or ([] if group else difflib.get_close_matches(unknown, names, n=1))
    hint = f"\nDid you mean {near[0]}?" if near else ""
    if len(group) > MAX_LISTED_OPTIONS:
        return f"{hint}\n`renoise predict --help-all` explains the {len(group)} options of {prefix}"
    return hint + (f"\nThere are: {', '.join(group.values())}" if group else "")

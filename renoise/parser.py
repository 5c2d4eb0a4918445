"""The parser of the command line: messages that say what would have been right, and the help.

It reads the text of jsonargparse's messages, so pyproject.toml allows only versions whose texts are tested.
"""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from lightning.pytorch.cli import LightningArgumentParser

from renoise.data import ImagesDataModule
from renoise.editing.discovery import load_editors
from renoise.errors import InputError
from renoise.inversion.discovery import load_inverters

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
    r"Expected a <class '(?:\w+\.)*(\w+)'>": r"expected type \1",
    r"Expected a typing\.Literal\[(.*?)\]": r"expected one of \1",
    r"Expected a dot import path string: (.*)(?:\n *Given value: \1)?": r"'\1' is neither a class nor a mapping",
    r"\.?\s+(?:Got|Given) value: ": ", got ",
    r"required: predict\.": "required: ",
    r"argument subcommand: invalid choice: ('.*?') .*": r"there is no command \1; there are predict, presets",
    r"Problem with given class_path '([\w.]+)':\s*": r"\1: ",
}
"""jsonargparse's words and those that replace them."""
NO_SUCH_CLASS = re.compile(
    r"is neither a class|Import path does not correspond|No module named|has no attribute|expected type Sequence"
)
"""Messages about a class that does not exist, in plain words."""
CLASSES: dict[str, Callable[[], Iterable[str]]] = {
    "data": lambda: [module.__name__ for module in ImagesDataModule.__subclasses__()],
    "model.editors": load_editors,
    "model.inversion": load_inverters,
    "model.inversion.path": load_inverters,
}
"""Functions that return the names of the classes that an option takes."""


class Parser(LightningArgumentParser):
    """A parser whose messages list the alternatives and leave out the usage.

    Every message is one line. It begins with the full name of the option that has a wrong value.
    """

    shown_classes: Mapping[str, type] | None = None
    """Classes whose options the help shows, by option. jsonargparse shows them for `--data.help` only."""

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
        if option in CLASSES and NO_SUCH_CLASS.search(message):
            message += f". There are: {', '.join(sorted(CLASSES[option]()))}; or give the class path of another"
        if 'expected "subcommand"' in message:
            message = "give a command: `renoise predict` inverts images, `renoise presets` lists presets; see --help"
        raise InputError(message) from ex

    def format_help(self, *args: Any) -> str:
        """Returns the help with the options of `shown_classes`."""
        text: str = super().format_help(*args)
        for option, kind in (self.shown_classes or {}).items():
            description = f"Options of {kind.__name__}, the default of --{option}:"
            parser = LightningArgumentParser(description=description, add_help=False, usage=argparse.SUPPRESS)
            parser.add_class_arguments(kind, option)
            text += f"\n{parser.format_help()}"
        return text


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
    """Returns the closest option, and all of its group."""
    names = [action.dest for action in parser._actions if action.dest.split(".")[-1] not in NOT_OPTIONS]
    near = difflib.get_close_matches(unknown, names, n=1)
    group = [name for name in names if name.rpartition(".")[0] == unknown.rpartition(".")[0]]
    hint = f"\nDid you mean {near[0]}?" if near else ""
    return hint + (f"\nThere are: {', '.join(group)}" if group else "")

"""The parser of the command line: messages that say what would have been right, and the help.

It reads the text of jsonargparse's messages, so pyproject.toml allows only versions whose texts are tested.
"""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from lightning.pytorch.cli import LightningArgumentParser

from renoise.data import ImagesDataModule
from renoise.editing.discovery import load_editors
from renoise.errors import InputError
from renoise.inversion.discovery import load_inverters

NOT_OPTIONS = {"help", "config", "print_config"}
UNKNOWN_OPTION = re.compile(
    r"(?:unrecognized arguments: --|(?:Subcommand '\w+'|Group '(?P<group>[\w.]+)') does not accept option '|Option ')"
    r"(?:predict\.)?(?P<name>[\w.]+)",
    re.IGNORECASE,
)
"""jsonargparse's message about an unknown option."""
UNKNOWN_DATA_MODULE = re.compile(
    r'^Parser key "data":.*(?:Expected a dot import path|Import path does not correspond|No module named)', re.DOTALL
)
"""jsonargparse's message about an unknown data module."""
INTERNAL_LINES = re.compile(
    r"^ *(?:Does not validate against|Subtypes:|Errors:|- Expected a <class 'NoneType'>|Given value).*\n?", re.M
)
"""Lines of jsonargparse's messages about its own types."""


class Parser(LightningArgumentParser):
    """A parser whose messages list the alternatives and leave out the usage."""

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
        message = INTERNAL_LINES.sub("", message).strip()
        if 'model.editors"' in message:
            message += f"\nThe installed editors are: {', '.join(sorted(load_editors()))}"
        if 'model.inversion"' in message:
            message += f"\nThe installed inversion methods are: {', '.join(sorted(load_inverters()))}"
        if UNKNOWN_DATA_MODULE.search(message):
            modules = sorted(module.__name__ for module in ImagesDataModule.__subclasses__())
            message = f"data: no such data module. There are: {', '.join(modules)}; or give the class path of another"
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


def _alternatives(unknown: str, parser: LightningArgumentParser) -> str:
    """Returns the closest option, and all of its group."""
    names = [action.dest for action in parser._actions if action.dest.split(".")[-1] not in NOT_OPTIONS]
    near = difflib.get_close_matches(unknown, names, n=1)
    group = [name for name in names if name.rpartition(".")[0] == unknown.rpartition(".")[0]]
    hint = f"\nDid you mean {near[0]}?" if near else ""
    return hint + (f"\nThere are: {', '.join(group)}" if group else "")

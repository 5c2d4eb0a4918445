"""The command line's parser: errors that say what would have been right, and the help."""

from __future__ import annotations

import argparse
import difflib
import re
from typing import Any, NoReturn

import lightning as L
from lightning.pytorch.cli import LightningArgumentParser

from renoise.data import ImagesDataModule
from renoise.editing.base import load_editors
from renoise.errors import InputError

NOT_OPTIONS = {"help", "config", "print_config"}
UNKNOWN_OPTION = re.compile(
    r"(?:unrecognized arguments: --|(?:Subcommand '\w+'|Group '(?P<group>[\w.]+)') does not accept option '|Option ')"
    r"(?:(?:fit|predict)\.)?(?P<name>[\w.]+)",
    re.IGNORECASE,
)
"""How jsonargparse complains about an option that there is not."""
NO_DATA_MODULE = re.compile(
    r'^Parser key "data":.*(?:Expected a dot import path|Import path does not correspond|No module named)', re.DOTALL
)
"""How it complains about a data module that there is not."""
CHATTER = re.compile(
    r"^ *(?:Does not validate against|Subtypes:|Errors:|- Expected a <class 'NoneType'>|Given value).*\n?", re.M
)
"""Lines of its complaints that speak of its own types, and would be new to nobody but its authors."""


class Parser(LightningArgumentParser):
    """Errors that say what would have been right, without the usage that buries them."""

    usual_data: type[L.LightningDataModule] | None = None
    """The data module whose options stand in the help; jsonargparse keeps them behind `--data.help`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # An option that is cut short would be taken for the one that begins like it.
        super().__init__(*args, **{"allow_abbrev": False} | kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Adds to a complaint about an unknown option or editor what there is.

        Raises:
            InputError: always, except inside of jsonargparse's own attempts (`exit_on_error` is false).
        """
        unknown = UNKNOWN_OPTION.match(message)
        if unknown:
            name = ".".join(filter(None, (unknown["group"], unknown["name"])))
            message += _alternatives(name, getattr(ex, "subcommand_parser", None) or self)
        if not self.exit_on_error:
            super().error(message, ex)
        message = CHATTER.sub("", message).strip()
        if 'model.editors"' in message:
            message += f"\nThe installed editors are: {', '.join(sorted(load_editors()))}"
        if NO_DATA_MODULE.search(message):
            modules = sorted(module.__name__ for module in ImagesDataModule.__subclasses__())
            message = (
                f"data: no such data module. There are: {', '.join(modules)}; or the class path of one of your own"
            )
        if 'expected "subcommand"' in message:
            message = "say `renoise predict` to invert images, or `renoise fit` to train a model; --help explains each"
        raise InputError(message) from ex

    def format_help(self, *args: Any) -> str:
        """The help, with the options of `usual_data`."""
        text: str = super().format_help(*args)
        if self.usual_data is None:
            return text
        parser = LightningArgumentParser(
            description="The options of --data's default:", add_help=False, usage=argparse.SUPPRESS
        )
        parser.add_class_arguments(self.usual_data, "data")
        return f"{text}\n{parser.format_help()}"


def _alternatives(unknown: str, parser: LightningArgumentParser) -> str:
    names = [action.dest for action in parser._actions if action.dest.split(".")[-1] not in NOT_OPTIONS]
    near = difflib.get_close_matches(unknown, names, n=1)
    group = [name for name in names if name.rpartition(".")[0] == unknown.rpartition(".")[0]]
    hint = f"\nDid you mean {near[0]}?" if near else ""
    return hint + (f"\nThere are: {', '.join(group)}" if group else "")

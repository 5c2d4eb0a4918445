"""The help of `renoise predict`: `--help` has this program's options in short, `--help-all` all options in full."""

from __future__ import annotations

import argparse
import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

COMMAND_OPTIONS = {
    "--preset NAME": "Settings by name; `renoise presets` lists them.",
    "--config FILE": "A YAML file, whose settings override those before.",
    "--print_config": "Print the settings and exit.",
    "--help-all": "Explain every option in full, Lightning's too.",
}
ENDING = """\
Lightning's options --trainer.default_root_dir (the output folder), .accelerator,
.devices, .precision and others are explained by --help-all."""
NOT_LISTED = {"", "-h", "-c", "help-all", "print_config", "seed_everything", "model", "data", "writer", "trainer"}
"""Names that are no options of the command's own, or that `COMMAND_OPTIONS` has."""
GROUPS = {"model": "Model and sampler", "data": "Images", "writer": "Output folder"}
"""Groups of options that are this program's own, in order, with headings."""
FIRST_SENTENCE = re.compile(r"(?<=[a-z)`\]]\.)\s")
"""Where a sentence ends."""
NAME_WIDTH = 33
LEAST_WIDTH, WIDTH_OF_PIPES = 80, 110


class HelpAll(argparse.Action):
    """The option `--help-all`."""

    def __init__(self, option_strings: list[str], dest: str, default: Any = argparse.SUPPRESS, help: str = "") -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=default, help=help)

    def __call__(self, parser: Any, *args: Any) -> None:
        """Prints the help and ends the program."""
        print(full_help(parser))
        parser.exit()


def short_help(parser: argparse.ArgumentParser) -> str:
    """Returns this program's options, each in a sentence.

    Args:
        parser: The parser of `renoise predict`, or of a command with the same options and others. Its `shown_classes`
            has the classes whose options are shown, too, and its `examples` commands.
    """
    examples = [f"  {example}" for example in getattr(parser, "examples", ())]
    lines = [f"usage: {parser.usage}", "", f"{parser.description} For example:", "", *examples, ""]
    lines += _entries(COMMAND_OPTIONS | _options(parser, ""))
    classes = _class_parsers(getattr(parser, "shown_classes", {}))
    for group, heading in GROUPS.items():
        options = _options(parser, group)
        lines += ["", f"{heading}:", *_entries(options)] if options else []
        for option, of_class in classes.items():
            if option.partition(".")[0] == group:
                lines += ["", f"{of_class.description}:", *_entries(_options(of_class, option))]
    return "\n".join([*lines, "", ENDING, ""])


def full_help(parser: LightningArgumentParser) -> str:
    """Returns all options with their types, this program's first.

    Args:
        parser: See `short_help`.
    """
    groups: Any = parser._action_groups
    groups.sort(key=_is_of_trainer)
    parsers = _class_parsers(getattr(parser, "shown_classes", {})).values()
    return "\n".join([LightningArgumentParser.format_help(parser), *(each.format_help() for each in parsers)])


def _is_of_trainer(group: argparse._ArgumentGroup) -> bool:
    return any(action.dest.startswith("trainer.") for action in group._group_actions)


def _class_parsers(classes: Mapping[str, type]) -> dict[str, LightningArgumentParser]:
    """Returns a parser of the options of each class, by the option that takes the class."""
    parsers = {}
    for option, kind in classes.items():
        description = f"{kind.__name__}, the default of --{option}"
        parsers[option] = LightningArgumentParser(description=description, add_help=False, usage=argparse.SUPPRESS)
        parsers[option].add_class_arguments(kind, option)
    return parsers


def _options(parser: argparse.ArgumentParser, group: str) -> dict[str, str]:
    """Returns the options of a group by name, each with its first sentence and its default.

    Those of the group "" are the command's own, beside `COMMAND_OPTIONS`.
    """
    found = {}
    for action in parser._actions:
        option = action.option_strings[0] if action.option_strings else ""
        name = option.removeprefix("--")
        if name.rpartition(".")[0] == group and name.rpartition(".")[2] != "help" and name not in NOT_LISTED:
            text = FIRST_SENTENCE.split(" ".join((action.help or "").split()))[0].rstrip(".")
            is_required = action.required or action.dest in getattr(parser, "required_args", ())
            found[option] = f"{text}{' (required)' if is_required else _default(action.default)}."
    return found


def _default(value: Any) -> str:
    """Returns an option's default in parentheses. Empty where there is nothing to say."""
    if value is None or value is False or value == "" or value == () or hasattr(value, "class_path"):
        return ""
    text = ", ".join(value) if isinstance(value, tuple) else str(value)
    return f" ({text.lower() if isinstance(value, bool) else text})"


def _entries(options: Mapping[str, str]) -> Iterator[str]:
    width = max(LEAST_WIDTH, shutil.get_terminal_size((WIDTH_OF_PIPES, 0)).columns)
    for option, text in options.items():
        yield from _beside(f"  {option}", textwrap.wrap(text, width - NAME_WIDTH))


def _beside(name: str, lines: Iterable[str]) -> Iterator[str]:
    """Yields lines with a name at the left of the first, or above it where the name is long."""
    if len(name) >= NAME_WIDTH:
        yield name
        name = ""
    for line in lines:
        yield f"{name:<{NAME_WIDTH}}{line}"
        name = ""

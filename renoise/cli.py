"""The command line: `renoise edit` edits a picture, `renoise predict` a data set; others compare and advise.

This file imports no slow library, so that something is on the screen at once.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import NoReturn

from renoise.demo.options import parse_demo
from renoise.errors import InputError
from renoise.one_image.options import parse_edit, parse_invert
from renoise.presets import describe_presets, preset_path
from renoise.utils.deferred_imports import defer_torchmetrics, without_collection
from renoise.utils.launchers import is_first_process
from renoise.utils.progress import status
from renoise.utils.screen_text import escaped, format_warning

DESCRIPTION = """\
ReNoise finds the noise that a text-to-image diffusion model turns back into your photograph, so that a changed prompt
edits the photograph. For example:

  renoise edit cat.jpg "a cat on a sofa" "a dog on a sofa"
  renoise predict --preset sdxl_turbo_fast --data.root photos/
  renoise evaluate --suite renoise_table2 --preset sdxl_turbo --data.root photos/"""
COMMANDS = {
    "edit": "Edit one picture.",
    "invert": "Invert one picture.",
    "demo": "Show a page in the browser to invert and edit pictures.",
    "predict": "Invert, reconstruct and edit the images of a data set.",
    "evaluate": "Compare inversions and editing methods, as tables and figures.",
    "advise": "Try settings on a few images, and say which ones your model needs.",
    "presets": "List the presets: models with the settings of the paper, and with our own.",
    "models": "List the model families that checkpoints can be of, and what each was checked with.",
}


def main(args: list[str] | None = None) -> None:
    """Runs the command line. A mistake of the user ends with one line on stderr and exit status 2.

    Args:
        args: Take the place of `sys.argv[1:]`.
    """
    command = (sys.argv[1:] if args is None else args)[:1]
    try:
        if command == ["presets"]:
            print_presets(describe_presets())
        elif command == ["models"]:
            _print_models()
        elif command in (["-h"], ["--help"]):
            _print_help()
        elif command == ["--version"]:
            print(f"renoise {version('renoise')}")
        elif command == ["evaluate"]:
            _evaluate(args)
        elif command == ["edit"]:
            _edit(args)
        elif command == ["invert"]:
            _invert(args)
        elif command == ["demo"]:
            _demo(args)
        elif command == ["advise"]:
            _advise(args)
        else:
            _check(command)
            _predict(args)
    except InputError as error:
        print("\n".join(map(escaped, f"error: {error}".split("\n"))), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        _end_by_signal(signal.SIGINT)
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # Lightning's own answer to it has the status of an error
            _end_by_signal(signal.SIGINT)
        if end.code == 128 + signal.SIGTERM:
            _end_by_signal(signal.SIGTERM)
        raise
    finally:
        format_warning.print_counts()


def _end_by_signal(number: signal.Signals) -> NoReturn:
    """Ends the program with a line that says how to go on, and with the exit status that shells use for a signal."""
    if is_first_process():
        name = {signal.SIGINT: "Ctrl-C"}.get(number, number.name)
        print(f"stopped by {name}: finished images are kept; run the same command again to continue", file=sys.stderr)
    sys.exit(128 + number)


def print_presets(presets: Mapping[str, str]) -> None:
    """Prints the presets and how to use one."""
    width = max(map(len, presets), default=0)
    for name, description in presets.items():
        print(f"{name:<{width}}  {description}")
    print("\nrenoise predict --preset NAME --data.root FOLDER runs one; --print_config after it shows its settings.")


def _print_models() -> None:
    with status("starting …"):
        from renoise.models.families import describe_families
    print("\n".join(describe_families()))


def _print_help() -> None:
    print(f"usage: renoise COMMAND [options]\n\n{DESCRIPTION}\n")
    for name, explanation in COMMANDS.items():
        print(f"  {name:<10}{explanation}")
    print("\n`renoise COMMAND --help` explains the options of a command, `renoise --version` prints the version.")


def _check(command: Sequence[str]) -> None:
    """Raises InputError where there is no command, or an unknown one. A `--config` before the command is allowed."""
    if not command:
        raise InputError("give a command, such as `renoise predict`; see renoise --help")
    if command[0] not in COMMANDS and not command[0].startswith("-"):
        raise InputError(f"there is no command {command[0]!r}; there are {', '.join(COMMANDS)}")


def _evaluate(args: list[str] | None) -> None:
    arguments = _with_presets(sys.argv[1:] if args is None else args)
    with status("starting …"), without_collection():
        defer_torchmetrics()
        from renoise.evaluation.extra import require_extra

        require_extra()
        from renoise.evaluation.command import evaluate
    evaluate(arguments[1:])


def _predict(args: list[str] | None) -> None:
    if args is None:
        sys.argv[1:] = _with_presets(sys.argv[1:])  # in place, for the processes that Lightning starts with it
    else:
        args = _with_presets(args)
    with status("starting …"), without_collection():
        defer_torchmetrics()
        from renoise.predict import predict
    predict(args)


def _edit(args: list[str] | None) -> None:
    options = parse_edit((sys.argv[1:] if args is None else args)[1:])
    with status("starting …"), without_collection():
        from renoise.one_image.command import edit
    edit(options)


def _invert(args: list[str] | None) -> None:
    options = parse_invert((sys.argv[1:] if args is None else args)[1:])
    with status("starting …"), without_collection():
        from renoise.one_image.command import invert
    invert(options)


def _demo(args: list[str] | None) -> None:
    options = parse_demo((sys.argv[1:] if args is None else args)[1:])
    with status("starting …"), without_collection():
        from renoise.demo.extra import require_extra

        require_extra()
        from renoise.demo.command import demo
    demo(options)


def _advise(args: list[str] | None) -> None:
    options = _with_presets((sys.argv[1:] if args is None else args)[1:])
    with status("starting …"), without_collection():
        defer_torchmetrics()
        from renoise.evaluation.convergence.advise import advise
    advise(options)


def _with_presets(arguments: list[str]) -> list[str]:
    """Replaces `--preset NAME` by `--config` and the preset's file."""
    replaced: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        option, equals, name = argument.partition("=")
        if option == "--preset":
            replaced += ["--config", str(preset_path(name if equals else next(remaining, "")))]
        else:
            replaced.append(argument)
    return replaced

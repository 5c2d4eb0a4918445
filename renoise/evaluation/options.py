"""The options of `renoise evaluate`. All others are those of `renoise predict`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from renoise.errors import InputError
from renoise.evaluation.suites import Suite, describe_suites, read_suite
from renoise.evaluation.tables import NFE
from renoise.utils.yaml_text import parse_yaml

CONVERGENCE = "convergence"
"""The suite that measures the iteration itself, and runs no methods."""
USAGE = "renoise evaluate --suite NAME [--preset NAME] [--config FILE] [options]"
DESCRIPTION = (
    "Compares inversions and editing methods over a data set. Takes every option of `renoise predict`, such as "
    "--preset, --model.checkpoint and --data.root, for all methods of the suite."
)


@dataclass
class Options:
    """The options of the command itself.

    Args:
        suite: What is compared. That of the name `CONVERGENCE` has no methods.
        folder: The output folder.
        compare_at: Column at which methods are set side by side, and the value there. None writes no such table.
        reference: Whether others' numbers stand beside ours.
        predict: Options of `renoise predict`.
    """

    suite: Suite
    folder: Path
    compare_at: tuple[str, float | None] | None
    reference: bool
    predict: list[str]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"evaluate: {message}")


def parse(arguments: Sequence[str]) -> Options:
    """Reads the options of the command. Those that it does not know are left to `renoise predict`.

    Args:
        arguments: See `evaluate`.

    Raises:
        InputError: There is no such suite, metric or option, or a value is wrong.
    """
    parser = _parser()
    arguments, metric_options = _metric_options(arguments)
    given, rest = parser.parse_known_args(arguments)
    if given.limit is not None:
        rest += ["--data.limit", str(given.limit)]
    if given.suite == CONVERGENCE:
        if given.metrics or metric_options or given.compare_at or given.reference:
            raise InputError(f"suite: {CONVERGENCE} takes no --metrics, --compare_at and --reference; leave them out")
        folder = Path(given.folder or Path("out", CONVERGENCE))
        return Options(Suite(CONVERGENCE, [], []), folder, None, False, rest)
    metrics = None if given.metrics is None else _metrics(given.metrics)
    suite = read_suite(given.suite).with_metrics(metrics, metric_options)
    if given.compare_at and given.compare_at[0] not in (columns := [NFE, *suite.metric_names]):
        raise InputError(f"compare_at: there is no column {given.compare_at[0]!r}; there are {', '.join(columns)}")
    folder = Path(given.folder or Path("out", suite.name))
    return Options(suite, folder, given.compare_at, given.reference, rest)


def _parser() -> argparse.ArgumentParser:
    descriptions = {CONVERGENCE: "How fast renoising converges on a model, and why.", **describe_suites()}
    suites = "".join(f"\n  {name:<18}{text}" for name, text in descriptions.items())
    parser = _Parser(
        "renoise evaluate",
        usage=USAGE,
        description=DESCRIPTION,
        epilog=f"suites:{suites}\n\n`renoise predict --help` lists the other options.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--suite", required=True, help="name of a suite, or a YAML file of your own")
    parser.add_argument(
        "--metrics", help="list of metrics in place of the suite's; --metrics.NAME.OPTION sets an option"
    )
    parser.add_argument("--limit", type=int, help="number of images, the first of the data set; default: all")
    parser.add_argument(
        "--compare_at", type=_column, metavar="COLUMN[=VALUE]", help="set methods side by side at an equal value: nfe"
    )
    parser.add_argument("--reference", type=_boolean, default=False, help="true adds others' published numbers")
    parser.add_argument(
        "--trainer.default_root_dir", dest="folder", help="output folder; default: out/ and the name of the suite"
    )
    return parser


def _metric_options(arguments: Sequence[str]) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Takes `--metrics.NAME.OPTION VALUE` out of the arguments. Returns the others, and the options by metric."""
    others: list[str] = []
    options: dict[str, dict[str, Any]] = {}
    remaining = iter(arguments)
    for argument in remaining:
        key, equals, value = argument.partition("=")
        parts = key.split(".")
        if parts[0] == "--metrics" and len(parts) == 3:
            options.setdefault(parts[1], {})[parts[2]] = parse_yaml(
                key.lstrip("-"), value if equals else next(remaining, "")
            )
        else:
            others.append(argument)
    return others, options


def _metrics(text: str) -> list[Any]:
    settings = parse_yaml("metrics", text)
    if not isinstance(settings, list):
        raise InputError(f"metrics: give a list, such as [psnr, ssim], got {text!r}")
    return settings


def _column(text: str) -> tuple[str, float | None]:
    column, equals, value = text.partition("=")
    try:
        return column, float(value) if equals else None
    except ValueError:
        raise argparse.ArgumentTypeError(f"give a column, or a column=number, got {text!r}") from None


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"give true or false, got {text!r}")
    return text == "true"

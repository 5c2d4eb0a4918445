"""Options of `renoise demo`. This file imports no slow library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from renoise.errors import InputError
from renoise.one_image.options import (
    DEFAULT_PRESET,
    EPILOG,
    ModelOptions,
    Parser,
    add_model_options,
    read_model_options,
)

HOST, PORT = "127.0.0.1", 7860
DESCRIPTION = """Show a page in the browser: invert a picture, look at its reconstruction, and edit it as often as you
like. Only this machine reaches the page, unless --host says otherwise."""


@dataclass(frozen=True)
class DemoOptions(ModelOptions):
    """What `renoise demo` takes.

    Args:
        host: Address of this machine that the page is shown at.
        port: Port of it.
    """

    host: str
    port: int


def parse_demo(arguments: Sequence[str]) -> DemoOptions:
    """Reads the command line of `renoise demo`, after the command.

    Raises:
        InputError: It is wrong.
    """
    epilog = EPILOG.format(DEFAULT_PRESET)
    usage = "renoise demo [options]"
    parser = Parser(usage=usage, description=DESCRIPTION, epilog=epilog, allow_abbrev=False)
    add_model_options(parser)
    hosts = f"address to show the page at; default: {HOST}, this machine alone. 0.0.0.0 is every network of it"
    parser.add_argument("--host", default=HOST, metavar="ADDRESS", help=hosts)
    parser.add_argument("--port", default=PORT, type=int, metavar="N", help=f"port of the page; default: {PORT}")
    values = parser.parse_args(arguments)
    if not 1 <= values.port <= 65535:
        raise InputError(f"--port must be from 1 to 65535, got {values.port}")
    return DemoOptions(**vars(read_model_options(values)), host=values.host, port=values.port)

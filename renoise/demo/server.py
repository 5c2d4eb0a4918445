"""Shows the page at an address of this machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from renoise.demo.options import DemoOptions
from renoise.demo.studio import Studio
from renoise.demo.visitors import Visitors
from renoise.errors import InputError

MAX_UPLOAD = "20mb"
MAX_WAITING = 20
"""Tasks that wait for the model. A visitor beyond is told to come back later."""
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' blob: data:; worker-src 'self' blob:; "
    "frame-ancestors 'none'; base-uri 'self'"
)
"""The browser asks no other machine for anything."""


def check_address(options: DemoOptions) -> None:
    """Checks that the page can be shown at the address, before the model is loaded.

    Raises:
        InputError: The port is in use or not allowed, or the address is none of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"the page cannot be shown at {options.host}:{options.port}: {reason}; take another --port, or an address "
            "of this machine as --host"
        ) from error


class Guard:
    """Answers no request that would have this machine ask another one, and tells the browser to ask none either.

    Args:
        app: The server's application (ASGI).
    """

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        """Answers one request."""
        if "=http" in scope.get("path", "").lower():
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b"not allowed"})
            return

        async def send_with_policy(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)

        await self.app(scope, receive, send_with_policy)


@contextmanager
def serving(studio: Studio, options: DemoOptions, folder: Path) -> Iterator[str]:
    """Shows the page while the block runs, and yields its address.

    Args:
        studio: The model.
        options: Where the page is shown.
        folder: A folder for the files of visitors.

    Raises:
        InputError: The page cannot be shown there.
    """
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "files")  # the only folder that Gradio serves files from
    import gradio as gr
    from starlette.middleware import Middleware

    from renoise.demo.page import Page
    from renoise.demo.style import CSS, PIXELS

    page = Page(Visitors(studio, folder / "visitors"))
    page.blocks.queue(max_size=MAX_WAITING)
    try:
        _, address, _ = page.blocks.launch(
            server_name=options.host,
            server_port=options.port,
            max_file_size=MAX_UPLOAD,
            theme=gr.themes.Default(primary_hue="indigo"),
            css=CSS + (PIXELS if studio.is_miniature else ""),
            app_kwargs={"middleware": [Middleware(Guard)]},
            prevent_thread_lock=True,
            share=False,
            quiet=True,
            show_error=False,
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            enable_monitoring=False,
        )
    except OSError as error:
        raise InputError(f"the page cannot be shown at {options.host}:{options.port}: {error}") from error
    try:
        yield str(address)
    finally:
        page.blocks.close(verbose=False)

"""Runs `renoise demo`."""

from __future__ import annotations

import signal
import tempfile
from pathlib import Path
from threading import Event
from typing import Any

from renoise.demo.options import DemoOptions
from renoise.demo.server import check_address, serving
from renoise.demo.studio import open_studio
from renoise.utils.library_messages import quiet_libraries, quiet_loading
from renoise.utils.progress import is_terminal, show_progress
from renoise.utils.screen_text import on_screen


def demo(options: DemoOptions) -> None:
    """Shows the page until the program is stopped, by Ctrl-C or SIGTERM. Then all files of visitors are removed.

    Raises:
        InputError: A mistake of the user.
    """
    check_address(options)
    quiet_libraries()
    quiet_loading(show_downloads=is_terminal())
    with show_progress():
        studio = open_studio(options)
    print(on_screen(f"model: {studio.describe()}"))
    stopped = Event()

    def stop(number: int, frame: Any) -> None:
        stopped.set()

    with (
        tempfile.TemporaryDirectory(prefix="renoise-demo-", ignore_cleanup_errors=True) as folder,
        serving(studio, options, Path(folder).resolve()) as address,
    ):
        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        print(f"page: {address} (Ctrl-C stops it)", flush=True)
        stopped.wait()
        for number, handler in before.items():
            signal.signal(number, handler)
    print("stopped; the files of visitors are removed")

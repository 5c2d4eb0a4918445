"""The page in a real browser: what a visitor does, and two visitors at once."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.demo import CAT, EDIT_TEXT, REPOSITORY, TEXT

pytest.importorskip("gradio", reason='the page needs gradio: pip install ".[demo]"')
playwright = pytest.importorskip("playwright.sync_api", reason="the browser is driven by playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
QUIET += ["--disable-sync", "--no-first-run"]
SECONDS = 60_000
"""How long the page may take for one thing, in milliseconds."""
STEPS = 50

Open = Callable[[], Any]


class Server:
    """`renoise demo` in a process of its own, which keeps its files in a folder of the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "renoise", "demo", "--model", "data/models/tiny-sd", "--port", str(port)]
        environment = os.environ | {"TMPDIR": str(folder), "CUDA_VISIBLE_DEVICES": ""}
        self.process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.lines = [self.process.stdout.readline() for _ in range(2)]
        self.address = f"http://127.0.0.1:{port}/"

    def visitors(self) -> list[Path]:
        """The folders of the visitors who have a picture."""
        return list(self.folder.glob("renoise-demo-*/visitors/*"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    server = Server(folder)
    assert server.lines == [
        "model: data/models/tiny-sd, preset sd_fast, 50 steps, 64×64 pixels, cpu\n",
        f"page: {server.address} (Ctrl-C stops it)\n",
    ]
    yield server
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(30) == 0
    assert list(folder.glob("renoise-demo-*")) == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def visit(server: Server, browser: Any) -> Iterator[Open]:
    """`visit()` opens the page as a new visitor."""
    contexts = []

    def visit() -> Any:
        contexts.append(browser.new_context(accept_downloads=True))
        page = contexts[-1].new_page()
        page.set_default_timeout(SECONDS)
        page.goto(server.address)
        page.wait_for_selector("#invert")
        return page

    yield visit
    for context in contexts:
        context.close()


def upload(page: Any, file: Path, text: str = TEXT) -> None:
    page.set_input_files("#upload input[type=file]", str(file))
    page.wait_for_selector("#picture img")
    page.fill("#text textarea", text)


def test_a_visitor_uploads_inverts_edits_and_downloads(server: Server, visit: Open, tmp_path: Path) -> None:
    page = visit()
    hosts, errors = set(), []
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]) if "://" in request.url else None)
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.reload()
    page.wait_for_selector("#invert")
    assert page.is_disabled("#invert")
    assert page.is_disabled("#edit")
    upload(page, CAT)
    page.click("#invert:enabled")
    page.wait_for_selector("#inversion-told progress")
    assert page.is_disabled("#invert")
    page.wait_for_selector("#inversion-told .done")
    assert "60 network calls" in page.inner_text("#inversion-told")
    assert "29.43 dB" in page.inner_text("#reconstruction")
    assert page.locator("#curve circle").count() == STEPS
    page.fill("#edit-text textarea", TEXT)
    page.click("#edit:enabled")
    assert "have the same text" in page.inner_text("#edit-told .error")
    page.fill("#edit-text textarea", EDIT_TEXT)
    page.click("#edit:enabled")
    page.wait_for_selector("#edit-told .done")
    assert page.locator("#history img").count() == 1
    assert f"renoise edit 00-cat.png '{TEXT}'" in page.inner_text("#command")
    with page.expect_download() as download:
        page.click("#download")
    download.value.save_as(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        names = archive.namelist()
    assert {"00-cat.png", "inversions/00-cat.safetensors", "edits/00-cat-reconstruction.png"} <= set(names)
    assert sum(name.startswith("edits/01-") for name in names) == 2
    assert hosts == {server.address.split("/")[2]}
    assert errors == []
    assert str(REPOSITORY) not in page.content()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_file_that_is_no_picture_is_answered_in_one_line(visit: Open, tmp_path: Path) -> None:
    page = visit()
    (tmp_path / "notes.png").write_text("notes")
    page.set_input_files("#upload input[type=file]", str(tmp_path / "notes.png"))
    told = page.inner_text("#notes .error")
    assert told.startswith("notes.png is not an image in a known format")
    assert page.is_disabled("#invert")


def test_visitors_wait_for_one_another_and_one_who_stops_or_leaves_frees_the_model(server: Server, visit: Open) -> None:
    first, second, third = (visit() for _ in range(3))
    for page in (first, second, third):
        page.locator("#samples button").first.click()
        page.wait_for_function("document.querySelector('#text textarea').value != ''")
    before = len(server.visitors())
    first.click("#invert:enabled")
    first.wait_for_selector("#inversion-told progress[max='50']")
    second.click("#invert:enabled")
    second.wait_for_selector("#stop-inverting:enabled")
    assert second.locator("#inversion-told progress[max='50']").count() == 0
    first.click("#stop-inverting:enabled")
    first.wait_for_selector("#inversion-told :text('Stopped.')")
    assert first.is_enabled("#invert")
    second.wait_for_selector("#inversion-told progress[max='50']")
    second.context.close()
    third.click("#invert:enabled")
    third.wait_for_selector("#inversion-told progress[max='50']")
    third.click("#stop-inverting:enabled")
    third.wait_for_selector("#inversion-told :text('Stopped.')")
    third.wait_for_function("() => true")
    assert len(server.visitors()) == before - 1


def test_no_file_of_the_server_can_be_fetched(server: Server, visit: Open) -> None:
    page = visit()
    upload(page, CAT)
    (folder, *_) = server.visitors()
    for path in (REPOSITORY / "README.md", "README.md", folder / "00-cat.png", "https://127.0.0.1/"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{server.address}gradio_api/file={path}")
        assert refused.value.code in (403, 404), path

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from renoise.errors import InputError, InputWarning
from renoise.utils.hub import check_hub
from renoise.utils.progress import show_progress

ANSWERS = {
    "/some/model/resolve/main/model_index.json": (
        200,
        {"X-Repo-Commit": "0" * 40, "ETag": '"1"', "Content-Length": "2"},
    ),
    "/gated/model/resolve/main/model_index.json": (403, {"X-Error-Code": "GatedRepo"}),
    "/no/model/resolve/main/model_index.json": (404, {"X-Error-Code": "RepoNotFound"}),
    "/other/files/resolve/main/model_index.json": (404, {"X-Error-Code": "EntryNotFound"}),
    "/broken/server/resolve/main/model_index.json": (503, {}),
}


class FakeHub(BaseHTTPRequestHandler):
    """Answers as the hub does."""

    asked: list[str]

    def do_HEAD(self) -> None:
        type(self).asked.append(self.path)
        status, headers = ANSWERS[self.path]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def set_endpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int], None]:
    """`set_endpoint(port)` puts the hub at a port of this machine. Its cache is empty."""

    def use(port: int) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        endpoint = f"http://127.0.0.1:{port}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        url = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))

    return use


@pytest.fixture
def hub(set_endpoint: Callable[[int], None]) -> Iterator[type[FakeHub]]:
    """A hub on this machine."""
    FakeHub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    set_endpoint(server.server_port)
    yield FakeHub
    server.shutdown()
    server.server_close()


def fill_cache(folder: Path, name: str) -> None:
    """Puts a file of some/model where huggingface_hub looks for what it has downloaded."""
    repository = folder / "cache" / "models--some--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (repository / "snapshots" / ("0" * 40) / name).write_text("{}")


def test_a_path_that_exists_is_not_looked_for_on_the_hub(hub: type[FakeHub], tmp_path: Path) -> None:
    assert check_hub(str(tmp_path), "model_index.json", "checkpoint") is False
    assert hub.asked == []


def test_a_repository_is_announced_before_it_is_downloaded(
    hub: type[FakeHub], capsys: pytest.CaptureFixture[str]
) -> None:
    with show_progress(True):
        assert check_hub("some/model", "model_index.json", "checkpoint") is False
    assert "checkpoint: some/model is a repository of the hub, http://127.0.0.1" in capsys.readouterr().err
    assert len(hub.asked) == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no/model", r"^lora: no/model: no such file or folder here, and no such repository on the hub, http://127\.0"),
        ("gated/model", r"^lora: gated/model: accept its conditions on http://127\.0\.0\.1:\d+/gated/model, then run"),
        ("other/files", r"^lora: other/files: the repository on the hub has no model_index\.json"),
        ("broken/server", r"^lora: broken/server: no such file or folder here, .* cannot be reached \(.*503"),
        ("./photos", r"^lora: \./photos: no such file or folder here, and not the name of a repository"),
        ("a/b/c", r"^lora: a/b/c: no such file or folder here, and not the name of a repository on the hub"),
    ],
)
def test_what_cannot_be_loaded_is_named_with_the_reason(hub: type[FakeHub], source: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        check_hub(source, "model_index.json", "lora")
    assert "\n" not in str(caught.value)
    assert len(hub.asked) <= 1, "it does not try again"


def test_a_hub_that_refuses_connections_is_unreachable(set_endpoint: Callable[[int], None]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens
        set_endpoint(closed.getsockname()[1])
        with pytest.raises(InputError, match=r"not in the hub's cache either, and the hub, http\S+, cannot be reached"):
            check_hub("some/model", "model_index.json", "checkpoint")


def test_a_hub_that_does_not_answer_is_given_up_in_time(
    set_endpoint: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("renoise.utils.hub.TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        set_endpoint(silent.getsockname()[1])
        started = time.perf_counter()
        with pytest.raises(InputError, match=r"cannot be reached \(.+\)$"):
            check_hub("some/model", "model_index.json", "checkpoint")
    assert time.perf_counter() - started < 2


def test_what_is_in_the_cache_is_loaded_without_the_hub(set_endpoint: Callable[[int], None], tmp_path: Path) -> None:
    fill_cache(tmp_path, "model_index.json")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        set_endpoint(closed.getsockname()[1])
        with pytest.warns(InputWarning, match=r"^checkpoint: the hub.* some/model is loaded from its cache"):
            assert check_hub("some/model", "model_index.json", "checkpoint") is True


def test_offline_mode_takes_the_cache_and_says_so_where_it_is_empty(
    set_endpoint: Callable[[int], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_endpoint(1)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"no such file or folder here, .* not asked in offline mode"):
        check_hub("some/model", "model_index.json", "checkpoint")
    fill_cache(tmp_path, "model_index.json")
    assert check_hub("some/model", "model_index.json", "checkpoint") is True

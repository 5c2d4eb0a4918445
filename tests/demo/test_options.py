from __future__ import annotations

import re
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from helpers.demo import REPOSITORY

from renoise.demo.options import parse_demo
from renoise.demo.server import check_address
from renoise.errors import InputError


def test_the_page_is_for_this_machine_alone_and_the_model_is_that_of_renoise_edit() -> None:
    options = parse_demo([])
    assert (options.host, options.port, options.preset, options.is_default) == (
        "127.0.0.1",
        7860,
        "sdxl_turbo_fast",
        True,
    )
    assert parse_demo(["--model", "sd"]).preset == "sd_fast"
    assert parse_demo(["--host", "0.0.0.0", "--port", "80"]).host == "0.0.0.0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "sdxl_turb"], "there is no 'sdxl_turb'.*; did you mean sdxl_turbo?"),
        (["--prot", "1"], "--prot 1; did you mean --port?"),
        (["--port", "x"], "--port: invalid int value: 'x'"),
        (["--port", "70000"], "--port must be from 1 to 65535, got 70000"),
        (["cat.jpg"], "unrecognized arguments: cat.jpg"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("?", r"\?")) as raised:
        parse_demo(arguments)
    assert "\n" not in str(raised.value)


def test_the_help_is_short_and_fast(capsys: pytest.CaptureFixture[str]) -> None:
    started = time.perf_counter()
    with pytest.raises(SystemExit):
        parse_demo(["--help"])
    assert time.perf_counter() - started < 1
    text = capsys.readouterr().out
    assert len(text.splitlines()) < 25
    for option in ("--preset", "--model", "--host", "--port"):
        assert option in text


def test_a_port_in_use_and_an_address_of_another_machine_are_found_before_the_model_is_loaded() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"127.0.0.1:{port}: Address already in use; take another --port"):
            check_address(parse_demo(["--port", str(port)]))
    check_address(parse_demo(["--port", str(port)]))
    with pytest.raises(InputError, match=r"192\.0\.2\.1:7860: "):
        check_address(parse_demo(["--host", "192.0.2.1"]))


def test_without_gradio_the_message_says_how_to_install_it(
    run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    run = run_cli("demo")
    assert (run.status, run.err.count("\n")) == (2, 1)
    assert 'pip install "renoise[demo]"' in run.err


def test_the_commands_of_the_guide_are_right() -> None:
    blocks = re.findall(r"```bash\n(.*?)```", (REPOSITORY / "docs/demo.md").read_text("utf-8"), re.DOTALL)
    commands = re.findall(r"renoise demo(.*)$", "".join(blocks), re.MULTILINE)
    assert [parse_demo(command.split()).preset for command in commands] == ["sd_fast", "sd_fast"]

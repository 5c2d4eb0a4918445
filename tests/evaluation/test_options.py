from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from renoise.errors import InputError
from renoise.evaluation.options import parse


def test_options_of_the_command_are_taken_and_all_others_left_to_predict() -> None:
    options = parse(
        [
            *("--suite", "renoise_table1", "--model.checkpoint", "m", "--limit", "3", "--compare_at", "nfe=40"),
            *("--metrics", "[psnr, lpips_vgg]", "--metrics.lpips_vgg.range", "[0, 1]", "--reference", "true"),
        ]
    )
    assert options.predict == ["--model.checkpoint", "m", "--data.limit", "3"]
    assert options.suite.metrics == ["psnr", {"lpips_vgg": {"range": [0, 1]}}]
    assert (options.compare_at, options.reference, options.folder) == (("nfe", 40.0), True, Path("out/renoise_table1"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: --suite"),
        (
            ["--suite", "renoise_table1", "--compare_at", "speed"],
            "compare_at: there is no column 'speed'; there are nfe",
        ),
        (["--suite", "renoise_table1", "--compare_at", "nfe=x"], "give a column, or a column=number, got 'nfe=x'"),
        (["--suite", "renoise_table1", "--metrics", "psnr"], "give a list, such as [psnr, ssim], got 'psnr'"),
        (["--suite", "renoise_table1", "--metrics", "[psnr"], "metrics: [psnr is not YAML: "),
        (["--suite", "renoise_table1", "--metrics.lpips_vgg.range", "[0,"], "lpips_vgg.range: [0, is not YAML: "),
        (["--suite", "convergence", "--compare_at", "nfe"], "convergence takes no --metrics, --compare_at"),
        (["--suite", "renoise_table1", "--reference", "yes"], "give true or false, got 'yes'"),
        (["--suite", "renoise_table1", "--limit", "many"], "invalid int value: 'many'"),
        (["--suite", "renoise_table1", "--metrics.lpips.range", "[0, 1]"], "metrics: there is no 'lpips'"),
    ],
)
def test_a_wrong_option_is_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_help_lists_the_suites(run_cli: Callable[..., Any]) -> None:
    shown = run_cli("evaluate", "--help")
    assert shown.status == 0
    assert "renoise_table1" in shown.out
    assert "--compare_at" in shown.out

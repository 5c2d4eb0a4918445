from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from renoise.errors import InputError
from renoise.evaluation.runs import SilentCLI, predict_arguments
from renoise.evaluation.suites import Method, describe_suites, read_suite, suite_names
from renoise.metrics import EDIT_METRICS, METRICS
from renoise.predict import predict

PAPER = {  # Tables 1 and 2: mean squared error, PSNR, LPIPS
    "renoise_table1": {
        "50-50-0": (0.00364, 26.02, 0.0627),
        "75-25-0": (0.00382, 25.47, 0.0661),
        "80-20-0": (0.00408, 25.05, 0.0710),
        "90-10-0": (0.01023, 20.25, 0.1031),
        "25-25-2": (0.00182, 29.57, 0.0364),
        "20-20-3": (0.00167, 29.88, 0.0363),
        "10-10-8": (0.00230, 28.16, 0.0468),
    },
    "renoise_table2": {
        "plain reversal": (0.0700, 11.78, 0.203),
        "K = 1": (0.0552, 12.80, 0.203),
        "K = 4": (0.0249, 16.52, 0.148),
        "K = 9": (0.0126, 19.70, 0.109),
        "averaging": (0.0087, 21.49, 0.088),
        "edit losses": (0.0276, 18.43, 0.126),
        "noise correction": (0.0196, 22.08, 0.085),
    },
}
TABLE_1_CALLS = {  # steps of the inversion, steps of the sampler, renoising iterations
    "50-50-0": (50, 50, 0),
    "75-25-0": (75, 25, 0),
    "80-20-0": (80, 20, 0),
    "90-10-0": (90, 10, 0),
    "25-25-2": (25, 25, 2),
    "20-20-3": (20, 20, 3),
    "10-10-8": (10, 10, 8),
}
ONE_OF_EACH_CURVE = [
    (name, method)
    for name in suite_names()
    for method in {method.curve: method for method in read_suite(name).methods}.values()
]


def write(folder: Path, **content: Any) -> str:
    path = folder / "suite.yaml"
    path.write_text(json.dumps(content))
    return str(path)


def test_a_sweep_is_a_method_for_each_value_on_one_curve(tmp_path: Path) -> None:
    inversion = {"class_path": "ReNoise", "init_args": {"tolerance": 0.1}}
    entry = {"model": {"inversion": inversion}, "sweep": {"inversion.init_args.iterations": [1, 9]}}
    methods = read_suite(write(tmp_path, methods={"ReNoise": entry, "plain": {}})).methods
    assert [(method.name, method.curve) for method in methods] == [
        ("ReNoise, iterations 1", "ReNoise"),
        ("ReNoise, iterations 9", "ReNoise"),
        ("plain", "plain"),
    ]
    assert methods[1].model == {
        "inversion": {"class_path": "ReNoise", "init_args": {"tolerance": 0.1, "iterations": 9}}
    }


def test_editors_can_be_swept_and_limited_to_some_methods(tmp_path: Path) -> None:
    editors = {"swap": {"class_path": "PromptSwap", "sweep": {"guidance_scale": [1, 2]}}, "NullText": {}}
    suite = read_suite(write(tmp_path, editors=editors, methods={"a": {}, "b": {"editors": ["swap"]}}))
    names = ["swap, guidance_scale 1", "swap, guidance_scale 2", "NullText"]
    assert [editor.name for editor in suite.editors_of(suite.methods[0])] == names
    assert [editor.name for editor in suite.editors_of(suite.methods[1])] == names[:2]
    assert suite.editors[1].setting == {"class_path": "PromptSwap", "init_args": {"guidance_scale": 2}}
    assert suite.editors[2].setting["class_path"] == "NullText"


def test_a_suite_without_editors_takes_those_of_the_command_line_and_an_empty_list_is_none(tmp_path: Path) -> None:
    assert read_suite(write(tmp_path, methods={"a": {}})).editors is None
    assert read_suite(write(tmp_path, methods={"a": {}}, editors={})).editors == []


def test_options_of_a_metric_are_added_to_those_of_the_suite(tmp_path: Path) -> None:
    suite = read_suite(write(tmp_path, methods={"a": {}}, metrics=["psnr", {"lpips_vgg": {"range": [0, 1]}}]))
    changed = suite.with_metrics(None, {"lpips_vgg": {"weights": "vgg.safetensors"}})
    assert changed.metrics == ["psnr", {"lpips_vgg": {"range": [0, 1], "weights": "vgg.safetensors"}}]
    assert suite.with_metrics(["clip_score"], {}).metrics_in(METRICS) == []
    assert suite.with_metrics(["clip_score", "psnr"], {}).metrics_in(EDIT_METRICS) == ["clip_score", "psnr"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"methods": {}}, "must be a mapping with `methods`"),
        ({"methods": {"a": {}}, "metric": ["psnr"]}, "has no key 'metric'; there are editors, methods"),
        ({"methods": {"a": {"models": {}}}}, "a has no key 'models'; there are data, editors, model, sweep"),
        ({"methods": {"a": {}}, "editors": ["PromptSwap"]}, "`editors` must be a mapping, got ['PromptSwap']"),
        ({"methods": {"a": {}}, "metrics": "psnr"}, "`metrics` must be a list, got 'psnr'"),
        ({"methods": ["ddim"]}, "`methods` must be a mapping, got ['ddim']"),
        ({"methods": {"a": {"model": {"eta": "${x}"}}}}, "cannot be read: Interpolation key 'x' not found"),
        ({"methods": {"a/b": {}}}, "a method's name is that of a folder, which 'a/b' cannot be"),
        ({"methods": {"..": {}}}, "which '..' cannot be"),
        ({"methods": {"a": 3}}, "a must be a mapping of data, editors, model, sweep, got 3"),
        ({"methods": {"a": {"sweep": {"eta": 1}}}}, "`sweep` must be one option with a list of its values"),
        ({"methods": {"a": {"sweep": {"eta": [1, 1]}}}}, "has 'a, eta 1' twice"),
        ({"methods": {"a": {"editors": ["x"]}}}, "a: there is no editor 'x' in `editors`"),
        ({"methods": {"a": {}}, "metrics": ["lpips"]}, "metrics: there is no 'lpips'; there are psnr"),
        ({"methods": {"a": {}}, "metrics": ["psnr", "psnr"]}, "metrics: give at least one, and each once"),
    ],
)
def test_a_wrong_suite_is_named_with_what_would_be_right(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(InputError, match=r"(suite|metrics): ") as caught:
        read_suite(write(tmp_path, **content))
    assert message in str(caught.value)


def test_two_methods_of_one_name_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text("methods:\n  a: {}\n  a: {}\n")
    with pytest.raises(InputError, match=r"suite: .*duplicate key"):
        read_suite(str(path))


def test_an_unknown_suite_is_answered_with_those_there_are() -> None:
    with pytest.raises(InputError, match="there is no 'table1'; there are pie_bench, renoise_"):
        read_suite("table1")


@pytest.mark.parametrize("name", suite_names())
def test_every_suite_says_in_its_first_line_what_it_is(name: str) -> None:
    assert len(describe_suites()[name]) > 20


@pytest.mark.parametrize("name", PAPER)
def test_reference_values_are_those_of_the_paper(name: str) -> None:
    suite = read_suite(name)
    assert [method.name for method in suite.methods] == list(PAPER[name])
    found = {method: tuple(values.values()) for method, values in suite.reference["values"].items()}
    assert found == PAPER[name]


def test_table_1_spends_a_hundred_calls_in_every_row() -> None:
    for method in read_suite("renoise_table1").methods:
        sampling = method.model["num_inference_steps"]
        inverting = method.model.get("num_inversion_steps", sampling)
        init_args = method.model["inversion"]["init_args"]
        iterations = init_args["iterations"]
        assert init_args == {
            "iterations": iterations,
            **dict.fromkeys(["averaging_weights", "regularization", "noise_correction"]),  # they take calls, too
        }
        assert (inverting, sampling, iterations) == TABLE_1_CALLS[method.name]
        assert inverting * (iterations + 1) + sampling == 100


class ParsedOnly(SilentCLI):
    """Reads the options and makes the objects, and runs nothing."""

    def _run_subcommand(self, subcommand: str) -> None:
        pass


@pytest.mark.parametrize(("name", "method"), ONE_OF_EACH_CURVE, ids=lambda value: getattr(value, "name", value))
def test_the_command_line_takes_every_method_of_every_suite(
    name: str, method: Method, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["renoise"])
    suite = read_suite(name).with_metrics(["psnr"], {})  # the weights of others are not at hand
    arguments = ["--config", "configs/presets/sdxl_turbo.yaml", "--data.root", str(tmp_path)]
    made = predict(predict_arguments(suite, method, arguments, tmp_path / "out"), ParsedOnly)
    editors = [editor.setting["class_path"] for editor in suite.editors_of(method)]
    assert list(made.model.editors) == (["PromptSwap"] if suite.editors is None else editors)
    assert made.datamodule.use_text == method.data.get("use_text", True)
    assert made.datamodule.resize == method.data.get("resize", "crop")

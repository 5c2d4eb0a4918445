from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import renoise
from renoise.data import ImageRecord
from renoise.errors import InputWarning
from renoise.outputs.columns import OWN_COLUMNS, renamed, warn_of_renamed
from renoise.outputs.manifest import Manifest

NAMES = st.sampled_from([*sorted(OWN_COLUMNS), "psnr", "mine", "label"]).flatmap(
    lambda name: st.sampled_from([name, f"data_{name}", f"data_data_{name}"])
)


@given(extra=st.dictionaries(NAMES, st.integers()))
def test_every_column_keeps_its_value_under_a_name_that_is_not_the_programs(extra: dict[str, int]) -> None:
    found = renamed(extra, ["mine"])
    assert list(found.values()) == list(extra.values())
    assert not found.keys() & (OWN_COLUMNS | {"psnr", "mine"})
    assert all(found[name] == value for name, value in extra.items() if name in found)


def test_one_warning_names_the_columns_that_are_renamed() -> None:
    columns = [{"label": 1}, {"label": 2, "status": "x"}, {"prompt": "a", "data_prompt": "b"}]
    records = [ImageRecord(f"{number}.png", Path("x"), extra=each) for number, each in enumerate(columns)]
    with pytest.warns(
        InputWarning, match=r"under others: prompt as data_data_prompt, status as data_status$"
    ) as caught:
        warn_of_renamed(records, [])
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_renamed(records[:1], [])


def test_a_data_set_with_columns_of_the_programs_names_can_be_run_continued_and_loaded(
    tmp_path: Path, pictures: Callable[..., Path], predict: Callable[..., Any]
) -> None:
    root, out = pictures(tmp_path / "set", "a.png", "b.png"), tmp_path / "out"
    row = {"file_name": "a.png", "text": "a cat", "prompt": "mine", "edit_prompt": "mine", "members": 7, "status": 3}
    row |= {"seconds": "long", "inversion": {"x": 1}, "edits": None, "psnr": "high", "nfe": []}
    (root / "metadata.jsonl").write_text(json.dumps(row))
    for _ in range(2):
        run = predict(root, out)
        assert run.status == 0, run.err
        assert "edit_prompt as data_edit_prompt" in run.warnings[0]
    found, other = Manifest(out).read()
    assert (found["prompt"], found["edit_prompt"], found["status"], other["status"]) == ("a cat", None, "ok", "ok")
    assert {name: found[f"data_{name}"] for name in row if name not in ("file_name", "text")} == {
        name: value for name, value in row.items() if name not in ("file_name", "text")
    }
    assert len(renoise.load_inversions(out)) == 2

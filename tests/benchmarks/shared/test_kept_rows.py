from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.shared.kept_rows import KeptRows, fingerprint
from renoise import AveragingWeights, ReNoise


@dataclass(frozen=True)
class Row:
    psnr: float
    share: float | None = None


def never() -> Row:
    raise AssertionError("this row is in the file")


def test_rows_are_measured_once_and_come_back_unchanged(tmp_path: Path) -> None:
    path, rows = tmp_path / "new/rows.jsonl", {"a": Row(1 / 3), "b": Row(float("inf"), 0.5)}
    kept = KeptRows(path, Row)
    for name in rows:
        assert kept.get(name, partial(rows.__getitem__, name)) == rows[name]
    for again in (kept, KeptRows(path, Row)):
        assert {name: again.get(name, never) for name in rows} == rows


def test_a_line_that_was_cut_off_is_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    for name in ("a", "b"):
        KeptRows(path, Row).get(name, lambda: Row(1.0))
    path.write_bytes(path.read_bytes()[:-1])
    KeptRows(path, Row).get("c", lambda: Row(3.0))
    kept = KeptRows(path, Row)
    assert [kept.get(name, never) for name in ("a", "c")] == [Row(1.0), Row(3.0)]
    assert kept.get("b", lambda: Row(2.0)) == Row(2.0)


def test_a_row_of_a_version_with_other_fields_is_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('["\\"a\\"", {"psnr": 1.0}]\n["\\"b\\"", {"psnr": 2.0, "share": 0.5}]\n')
    kept = KeptRows(path, Row)
    assert kept.get("b", never) == Row(2.0, 0.5)
    assert kept.get("a", lambda: Row(3.0)) == Row(3.0)
    assert KeptRows(path, Row).get("a", never) == Row(3.0)


def test_inversion_methods_with_other_options_are_other_rows(tmp_path: Path) -> None:
    kept = KeptRows(tmp_path / "rows.jsonl", Row)
    weights = [None, AveragingWeights([1.0], [1.0]), AveragingWeights([0.5, 0.5], [1.0])]
    for number, each in enumerate(weights):
        kept.get([1, ReNoise(1, each)], partial(Row, number))
    assert [kept.get([1, ReNoise(1, each)], never).psnr for each in weights] == [0, 1, 2]


def test_the_fingerprint_depends_on_the_weights_alone(tmp_path: Path) -> None:
    weights = tmp_path / "unet/model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"1")
    first = fingerprint([str(tmp_path)])
    (tmp_path / "config.json").write_text("{}")
    assert fingerprint([str(tmp_path)]) == first
    weights.write_bytes(b"2")
    assert fingerprint([str(tmp_path)]) != first

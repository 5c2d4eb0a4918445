from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.kept_rows import append_row, fingerprint, read_rows


@dataclass(frozen=True)
class Row:
    psnr: float
    share: float | None = None


def test_rows_come_back_as_they_were_under_their_keys(tmp_path: Path) -> None:
    kept = tmp_path / "new/rows.jsonl"
    assert read_rows(kept, Row) == {}
    rows = {"a": Row(1 / 3), "b": Row(float("inf"), 0.5)}
    for key, row in rows.items():
        append_row(kept, key, row)
    assert read_rows(kept, Row) == rows


def test_a_line_that_was_cut_off_is_left_out_and_the_next_takes_its_place(tmp_path: Path) -> None:
    kept = tmp_path / "rows.jsonl"
    append_row(kept, "a", Row(1.0))
    append_row(kept, "b", Row(2.0))
    kept.write_bytes(kept.read_bytes()[:-1])
    assert read_rows(kept, Row) == {"a": Row(1.0)}
    append_row(kept, "c", Row(3.0))
    assert read_rows(kept, Row) == {"a": Row(1.0), "c": Row(3.0)}


def test_the_fingerprint_is_of_the_weights_alone(tmp_path: Path) -> None:
    weights = tmp_path / "unet/model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"1")
    first = fingerprint([str(tmp_path)])
    (tmp_path / "config.json").write_text("{}")
    assert fingerprint([str(tmp_path)]) == first
    weights.write_bytes(b"2")
    assert fingerprint([str(tmp_path)]) != first

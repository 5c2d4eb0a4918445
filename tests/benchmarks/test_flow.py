from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import flow
from benchmarks.flow import METHODS
from benchmarks.shared.presets import read_tiny
from renoise import DDIM, FireFlow, Inverter, Noising, ReNoise, instantiate

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_last_method_is_the_presets() -> None:
    preset = instantiate(Inverter, read_tiny("sd35")["inversion"])
    *_, last = METHODS.values()
    assert (last.init_args["max_nfe"], last.init_args["warm_start"]) == (56, True)
    assert {name: str(value) for name, value in last.init_args.items() if name != "solver"} == {
        name: str(value) for name, value in preset.init_args.items() if name != "solver"
    }


def test_the_page_gets_all_tables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(flow, "METHODS", {"plain reversal": DDIM(), "warm start": ReNoise(0, warm_start=True)})
    monkeypatch.setattr(flow, "COMPARED", {"FireFlow": (FireFlow(), 2)})
    monkeypatch.setattr(flow, "GUIDANCE", (2.0,))
    monkeypatch.setattr(flow, "FLOW_EDITS", ((1.0, 2.0, 0.5),))
    monkeypatch.setattr(flow, "PAIRS", {"`FlowEdit`": Noising()})
    monkeypatch.setattr(flow, "read_tiny", lambda name: {**read_tiny(name), "num_inference_steps": 4})
    page = tmp_path / "page.md"
    page.write_text("".join(f"<!-- begin {name} -->\n<!-- end {name} -->\n" for name in flow.BLOCKS))
    flow.main(images=2, page=page)
    lines = page.read_text().splitlines()
    errors = [float(line.split("|")[3]) for line in lines if "| 4 |" in line]
    assert len(errors) == 2
    assert errors[1] < errors[0]
    assert sum(line.startswith("| FireFlow | 2 | 3 | 3 |") for line in lines) == 1
    assert sum(line.startswith("| 2.0 |") for line in lines) == 1
    assert sum(line.startswith("| 1.0 | 2.0 | 0.50 | 6 |") for line in lines) == 1  # 2 steps of 1 and 2 calls
    assert sum(line.startswith("| `FlowEdit` |") for line in lines) == 1

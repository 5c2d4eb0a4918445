from __future__ import annotations

import pytest
import torch

from renoise.errors import InputError
from renoise.utils.precision import check_half_precision, default_device_and_dtype, widest_float


def test_new_tensors_are_float32_on_the_cpu_inside_the_block_and_as_before_after_it() -> None:
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            with default_device_and_dtype():
                inside = torch.zeros(1)
            outside = torch.zeros(1)
    finally:
        torch.set_default_dtype(torch.float32)
    assert (inside.dtype, inside.device.type) == (torch.float32, "cpu")
    assert (outside.dtype, outside.device.type) == (torch.bfloat16, "meta")


def test_a_device_without_float16_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def conv2d(*_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("not implemented for 'Half'")

    monkeypatch.setattr(torch.nn.functional, "conv2d", conv2d)
    with pytest.raises(InputError, match=r"trainer\.precision: this cpu cannot run the model in float16 .*bf16-true"):
        check_half_precision(torch.device("cpu"))


def test_only_mps_has_no_float64() -> None:
    assert [widest_float(torch.device(name)) for name in ("cpu", "cuda")] == [torch.float64] * 2
    assert widest_float(torch.device("mps")) == torch.float32

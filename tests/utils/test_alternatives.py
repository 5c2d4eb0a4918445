from __future__ import annotations

from renoise.utils.alternatives import did_you_mean


def test_a_name_that_nothing_is_near_to_has_no_alternative() -> None:
    assert did_you_mean("xyz", ["sd14", "sdxl"]) == ""
    assert did_you_mean("sdlx", ["sd14", "sdxl"]) == "; did you mean sdxl?"

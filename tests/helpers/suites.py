"""A small suite for `renoise evaluate`."""

from __future__ import annotations

from typing import Any

METRICS = ["psnr", "mse", "latent_mse", "background_psnr"]
SUITE: dict[str, Any] = {
    "metrics": METRICS,
    "editors": {"PromptSwap": {"sweep": {"guidance_scale": [1.0, 2.0]}}},
    "methods": {
        "DDIM": {"model": {"inversion": "DDIM"}},
        "ReNoise": {
            "model": {"inversion": {"class_path": "ReNoise"}},
            "sweep": {"inversion.init_args.iterations": [1, 3]},
            "editors": [],
        },
    },
}

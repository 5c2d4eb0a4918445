"""Keeps what libraries say in every run off the screen, where users cannot act on it."""

from __future__ import annotations

import logging
import warnings

from renoise.utils.screen_text import format_warning

HIDDEN_WARNINGS = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # between two libraries
    r"`torch.jit.script` is deprecated",  # of torch itself, for forward-mode derivatives
    "The `local_dir_use_symlinks` argument is deprecated",
    "Total length of `Prefetcher` across ranks is zero",  # every image is finished
    r"The '\w+' does not have many workers",  # reading the images is seldom what a run waits for
    "Couldn't infer the batch indices fetched from your dataloader",  # batches hold their images' names
    "LightningCLI's args parameter is intended to run from within Python",  # `renoise evaluate` gives every method's
)
"""Regular expressions of warnings that are not shown."""


def quiet_libraries() -> None:
    """Hides messages of libraries that are not about the user's images, and prints `InputWarning` as one line."""
    for library in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(library).setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)  # the report of `--trainer.profiler`
    # It says which process ended before it ends the others.
    logging.getLogger("lightning.fabric.strategies.launchers.subprocess_script").setLevel(logging.INFO)
    for message in HIDDEN_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    warnings.formatwarning = format_warning


def quiet_loading(show_downloads: bool) -> None:
    """Hides the bars of diffusers and transformers. It imports both, so it is called when a model is to be loaded.

    Args:
        show_downloads: Whether the hub's bars of downloads are shown.
    """
    import diffusers
    import transformers
    from huggingface_hub.constants import HF_HUB_DISABLE_PROGRESS_BARS
    from huggingface_hub.utils.tqdm import enable_progress_bars

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()  # the hub's bars, too
    if show_downloads and HF_HUB_DISABLE_PROGRESS_BARS is None:
        enable_progress_bars()

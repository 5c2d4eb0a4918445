"""What is claimed of runs over whole data sets, measured: `python -m benchmarks.scale` prints it.

How long the network waits, what a second process gains, what is left after kills and damaged files, and how long a
restart takes to find what is done.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from jsonargparse import auto_cli

from benchmarks.scale_trials import endure, kill, restart, share, wait


def main(images: int = 1000, damaged: int = 2000, rows: int = 100_000, kills: int = 10) -> None:
    """Prints every measurement.

    Args:
        images: Number of scenes to invert with one process and with two, and during kills.
        damaged: Number of damaged files, beside as many good ones.
        rows: Number of finished images at the restart.
        kills: How often a run is killed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        waits = wait(folder / "waits", max(images // 10, 24))
        _print(
            f"{waits.between:.2%} of the time passes between batches, waiting for images, captions, latents and files; "
            f"the network is idle {waits.idle:.1%} of it"
        )
        sharing = share(folder / "sharing", images)
        one, two = sharing.seconds
        _print(
            f"{images} scenes: {images / one:.2f} images per second by one process, {images / two:.2f} by two: "
            f"{one / two:.2f} x; same manifest: {sharing.same_rows}; "
            f"latents differ by at most {sharing.largest_difference:.1e}"
        )
        survival = kill(folder / "kills", images, kills)
        _print(
            f"killed {kills} times, at {survival.killed_at} rows: "
            f"{survival.complete} of {survival.rows} rows complete, "
            f"{len(survival.problems)} files missing, broken or unfinished, "
            f"{survival.batches_done_twice:.1f} batches done twice"
        )
        found = endure(folder / "damage", damaged)
        _print(
            f"{found.good_ok} of {found.good} good files are inverted beside {found.damaged} damaged ones, "
            f"of which {found.damaged_rows} have a row ({found.damaged_ok} could still be read); "
            f"{len(found.outside)} files outside the output folder; peak memory {found.peak / 2**20:.0f} MiB"
        )
        few, many = restart(folder / "restart", rows)
        _print(f"a command that finds everything done: {few:.1f} s over 10 images, {many:.1f} s over {rows} more")


def _print(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    auto_cli(main)

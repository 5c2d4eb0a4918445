"""What the project claims of whole data sets, measured in one run: `python -m benchmarks.scale_benchmark`.

Prints what several processes gain, what is left after kills and damaged files, how long a restart takes to see what is
done, and how much of the time inversion waits. Takes three quarters of an hour on two cores with the numbers it has.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from jsonargparse import auto_cli
from rich.console import Console

from benchmarks.scale_trials import endure, kill, share, take_over, wait


def main(images: int = 1000, damaged: int = 2000, rows: int = 100_000, kills: int = 10) -> None:
    """Prints every measurement.

    Args:
        images: scenes to share among processes, and to be killed over.
        damaged: damaged files, beside as many good ones.
        rows: made-up rows of a manifest.
        kills: how often a run is killed.
    """
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        waits = wait(folder / "waits", max(images // 10, 24))
        console.print(
            f"{waits.between:.2%} of the time passes between batches, waiting for images, captions, latents and files; "
            f"the UNet is idle {waits.idle:.1%} of it"
        )
        sharing = share(folder / "sharing", images)
        one, two = sharing.seconds
        console.print(
            f"{images} scenes: {images / one:.2f} images per second by one process, {images / two:.2f} by two: "
            f"{one / two:.2f} x; same manifest: {sharing.same_rows}; latents differ by at most {sharing.furthest:.1e}"
        )
        survival = kill(folder / "kills", images, kills)
        console.print(
            f"killed {kills} times, at {survival.killed_at} rows: "
            f"{survival.complete} of {survival.rows} rows complete, "
            f"{len(survival.problems)} files missing, broken or unfinished, "
            f"{survival.batches_done_twice:.1f} batches done twice"
        )
        endurance = endure(folder / "damage", damaged)
        console.print(
            f"{endurance.good[1]} of {endurance.good[0]} good files come out beside {endurance.damaged[0]} damaged "
            f"ones, of which {endurance.damaged[1]} have a row ({endurance.forgiven} could be read all the same); "
            f"{len(endurance.outside)} files outside the output folder"
        )
        seconds = take_over(folder / "rows", rows)
        spent = ", ".join(f"{what} {each:.1f} s" for what, each in seconds.items())
        console.print(f"{rows} finished images: {spent}")


if __name__ == "__main__":
    auto_cli(main)

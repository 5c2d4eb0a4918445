"""PIE-Bench's table in the layout of PnPInversion (arXiv 2310.01506), so that its scripts read it."""

from __future__ import annotations

import pandas as pd

from renoise.evaluation.tables import RECONSTRUCTION

COLUMNS = {
    "structure_distance": "structure_distance",
    "psnr_unedit_part": "background_psnr",
    "lpips_unedit_part": "background_lpips",
    "mse_unedit_part": "background_mse",
    "ssim_unedit_part": "background_ssim",
    "clip_similarity_source_image": "clip_score_source",
    "clip_similarity_target_image": "clip_score",
    "clip_similarity_target_image_edit_part": "clip_score_edited",
}
"""PnPInversion's columns, and the metrics that they are."""


def pnp_inversion_table(images: pd.DataFrame, file_ids: dict[str, str]) -> pd.DataFrame:
    """Returns a row for each image, with the columns `method|metric` of each inversion and editing method.

    Args:
        images: See `tables.image_rows`.
        file_ids: PIE-Bench's key of each image, by file name.

    Returns:
        `file_id`, then PnPInversion's columns of each method, named "inversion+editor". Values that an image does not
        have are the text "nan", as PnPInversion writes them. Metrics that were not measured have no column.
    """
    edits = images[images["result"] != RECONSTRUCTION]
    measured = {theirs: ours for theirs, ours in COLUMNS.items() if ours in edits}
    table = pd.DataFrame({"file_id": list(file_ids.values())}, index=list(file_ids))
    for (method, editor), group in edits.groupby(["method", "result"], sort=False):
        rows = group.set_index("file_name")
        for theirs, ours in measured.items():
            table[f"{method}+{editor}|{theirs}"] = rows[ours].reindex(table.index)
    return table

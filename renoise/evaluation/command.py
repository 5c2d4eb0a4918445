"""The command `renoise evaluate`: several inversions and editing methods over one data set, as tables and figures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Console

from renoise.data import ImageRecord, PIEBenchDataModule
from renoise.data.images import read_size
from renoise.errors import InputError
from renoise.evaluation.comparison import draw_comparison
from renoise.evaluation.convergence.suite import evaluate_convergence
from renoise.evaluation.edit_rows import EditRows, usable
from renoise.evaluation.figures import plot_over_nfe
from renoise.evaluation.options import CONVERGENCE, Options, parse
from renoise.evaluation.pie_bench import pnp_inversion_table
from renoise.evaluation.runs import MethodRun, run_method
from renoise.evaluation.table_files import write_csv
from renoise.evaluation.tables import RECONSTRUCTION, at_equal, image_rows, markdown, summary
from renoise.metrics import EDIT_METRICS, METRICS, make_edit_metrics
from renoise.outputs.edit_outcomes import edit_outcomes, reasons
from renoise.outputs.resume import listed
from renoise.utils.files import write_atomically, writing_to
from renoise.utils.launchers import is_first_process
from renoise.utils.progress import show_progress

CONTENT = "evaluation.json"
"""The file that says which suite a folder belongs to."""


def evaluate(arguments: Sequence[str]) -> None:
    """Runs `renoise evaluate`. The same command continues where an earlier one was stopped.

    Args:
        arguments: Of the command line, after `evaluate`.

    Raises:
        InputError: A mistake of the user.
    """
    options = parse(arguments)
    if options.suite.name == CONVERGENCE:
        evaluate_convergence(options.predict, options.folder)
        return
    edit_metrics = make_edit_metrics(options.suite.metrics_in(EDIT_METRICS))  # their weights, before any image
    _claim(options)
    runs = []
    for number, method in enumerate(options.suite.methods, start=1):
        if is_first_process():
            print(f"[{number}/{len(options.suite.methods)}] {method.name}", flush=True)
        runs.append(run_method(options.suite, method, options.predict, options.folder))
    if not runs[0].is_first_process:
        return
    edit_metrics = usable(edit_metrics, runs[0]) if any(run.editors for run in runs) else {}
    settings = options.suite.metrics_in(EDIT_METRICS)
    tables = []
    for run in runs:
        path = options.folder / "edit_metrics" / f"{run.method.name}.jsonl"
        with show_progress():
            edits = EditRows(path, edit_metrics, settings).measure(run)
        tables.append(image_rows(run, edits, options.suite.metric_names))
    with writing_to(options.folder):
        _write(options, runs, pd.concat(tables, ignore_index=True))


def _claim(options: Options) -> None:
    """Makes the folder this suite's.

    Raises:
        InputError: It holds another suite's output.
    """
    path = options.folder / CONTENT
    if path.exists():
        other = json.loads(path.read_text(encoding="utf-8")).get("suite")
        if other != options.suite.name:
            raise InputError(
                f"trainer.default_root_dir: {options.folder} holds the output of the suite {other!r}; choose another "
                f"folder for {options.suite.name!r}"
            )
    with writing_to(options.folder):
        write_atomically(path, json.dumps({"suite": options.suite.name}).encode())


def _write(options: Options, runs: Sequence[MethodRun], images: pd.DataFrame) -> None:
    """Writes all tables and figures, and prints the tables."""
    folder, names = options.folder, options.suite.metric_names
    table = summary(images, names)
    write_csv(folder / "images.csv", images)
    write_csv(folder / "table.csv", table)
    write_csv(folder / "seconds.csv", _seconds(runs))  # apart from the others, which are the same in each run
    texts = list(_texts(options, table))
    write_atomically(folder / "table.md", "\n".join(texts).encode())
    values = options.suite.reference.get("values", {}) if options.reference else {}
    metrics: Mapping[str, Any] = {name: (METRICS | EDIT_METRICS)[name] for name in names}
    plot_over_nfe(folder / "over_nfe", table, metrics, values, options.suite.reference.get("source", ""))
    draw_comparison(folder / "comparison.png", runs)
    data = runs[0].data
    if isinstance(data, PIEBenchDataModule):
        file_ids = {record.file_name: str(record.extra["id"]) for record in data.records}
        write_csv(folder / "pie_bench.csv", pnp_inversion_table(images, file_ids), na_rep="nan")
    for text in [*texts, *_problems(runs)]:
        Console(soft_wrap=True, highlight=False).print(text, markup=False)
    print(f"tables and figures: {folder}")


def _texts(options: Options, table: pd.DataFrame) -> Iterator[str]:
    """Yields the tables as Markdown under their headings."""
    metrics: Mapping[str, Any] = {name: (METRICS | EDIT_METRICS)[name] for name in options.suite.metric_names}
    values = options.suite.reference.get("values", {}) if options.reference else {}
    parts = {
        "Reconstructions": table[table["result"] == RECONSTRUCTION],
        "Edits": table[table["result"] != RECONSTRUCTION],
    }
    if options.compare_at is not None:
        column, value = options.compare_at
        for heading, part in list(parts.items()):
            if part[column].notna().any():
                parts[f"{heading} at equal {column}"] = at_equal(part, column, value)
    for heading, part in parts.items():
        if len(part):
            ours = part["method"].unique() if heading.startswith("Edits") else ()  # the paper's tables have no edits
            others = {method: means for method, means in values.items() if method not in ours}
            yield f"## {heading}\n\n{markdown(part, metrics, others)}"
        elif " at equal " in heading:
            yield f"{heading}: no value is reached by every method\n"
    if values:
        yield f"Others' numbers: {options.suite.reference['source']}\n"
    yield "Mean ± standard deviation over images (median).\n"


def _problems(runs: Sequence[MethodRun]) -> Iterator[str]:
    """Yields a line for each method with failed images, for each editor that left images out, and about the data."""
    if len(runs[0].data.records) == 1:
        yield "one image: the tables have no standard deviations, and the figures no error bars"
    if isinstance(runs[0].data, PIEBenchDataModule):
        oblong = [record.file_name for record in runs[0].data.records if not _is_square(record)]
        if oblong:
            yield f"{listed(oblong)} not square: brought to the square by data.resize, and PnPInversion stretches"
    for run in runs:
        rows = run.rows
        failed = [row for row in rows if row["status"] == "failed"]
        if failed:
            yield f"{run.method.name}: {len(failed)} failed, such as {failed[0]['file_name']}: {failed[0]['error']}"
        for editor, outcomes in edit_outcomes(rows).items():
            if missing := outcomes.total() - outcomes["ok"]:
                yield f"{run.method.name}: {outcomes['ok']} edits by {editor}, {missing} not made: {reasons(outcomes)}"


def _is_square(record: ImageRecord) -> bool:
    size = read_size(record.source)
    return size is None or size[0] == size[1]


def _seconds(runs: Sequence[MethodRun]) -> pd.DataFrame:
    rows = [{"method": run.method.name, "seconds": row["seconds"]} for run in runs for row in run.rows]
    seconds = pd.DataFrame(rows).astype({"seconds": "float64"})
    return seconds.groupby("method", sort=False)["seconds"].agg(["mean", "median", "std"]).reset_index()

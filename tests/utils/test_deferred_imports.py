from __future__ import annotations

import subprocess
import sys

CHECK = """
import sys
from renoise.utils.deferred_imports import defer_torchmetrics

defer_torchmetrics()
import lightning.pytorch, torchmetrics

assert "torchmetrics.text" not in sys.modules, "Lightning needs more than LIGHTNING_NEEDS"
metric = torchmetrics.Metric
assert not hasattr(torchmetrics, "NoSuchMetric")
assert "torchmetrics.text" in sys.modules, "the question ran the package's code"
import torchmetrics.metric

assert metric is torchmetrics.Metric is torchmetrics.metric.Metric
assert issubclass(torchmetrics.MeanMetric, metric)
assert float(torchmetrics.functional.mean_squared_error(*torchmetrics.metric.torch.ones(2, 3))) == 0
"""


def test_torchmetrics_is_complete_but_runs_its_code_only_when_it_is_needed() -> None:
    subprocess.run([sys.executable, "-c", CHECK], check=True)


FALLBACK = """
import sys
import renoise.utils.deferred_imports as deferred

deferred.LIGHTNING_NEEDS["Moved"] = "torchmetrics.moved_elsewhere"
deferred.defer_torchmetrics()
assert not [name for name in sys.modules if name.startswith("torchmetrics")]
"""


def test_another_version_of_torchmetrics_is_imported_as_usual() -> None:
    subprocess.run([sys.executable, "-c", FALLBACK], check=True)


UNCOLLECTED = """
import atexit, gc
from renoise.utils.deferred_imports import without_collection

atexit.register(lambda: print(gc.get_freeze_count() > imported))  # runs after what is registered later
with without_collection():
    assert not gc.isenabled()
    cycle = []
    cycle.append(cycle)
assert gc.isenabled()
imported = gc.get_freeze_count()
assert not any(each is cycle for each in gc.get_objects()), "what imports made is searched for garbage"
made = [[cycle] for _ in range(100)]
with without_collection():
    assert gc.isenabled()
assert gc.get_freeze_count() == imported, "what a run makes is collected while it runs"
assert any(each is made for each in gc.get_objects())
"""


def test_imports_and_the_end_of_the_program_are_not_searched_for_garbage_but_a_run_is() -> None:
    done = subprocess.run([sys.executable, "-c", UNCOLLECTED], check=True, capture_output=True, text=True)
    assert done.stdout == "True\n"

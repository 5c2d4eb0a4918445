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

"""Notices when answers get worse: which model, which metric, since when, and how sure that is.

Read in this order: series (which answers are comparable), baseline (what they are like), ways (what getting worse
means), detector (when that is certain).
"""

from promptmill.metrics import OVERALL
from worker.monitoring.baseline import Baseline
from worker.monitoring.detector import Detector, Found
from worker.monitoring.series import Change, Series

__all__ = ["OVERALL", "Baseline", "Change", "Detector", "Found", "Series"]

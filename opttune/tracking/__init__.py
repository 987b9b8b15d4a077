"""Write to MLflow and read from it; the only package that uses mlflow.

Importing it imports mlflow, which takes more than a second.
"""

from opttune.tracking.address import resolve_tracking_uri, safe_uri
from opttune.tracking.reading import read_curves
from opttune.tracking.settings import Tracking
from opttune.tracking.study_run import StudyRun, open_study_run, sync
from opttune.tracking.thinning import Thinning
from opttune.tracking.trial_run import TrialRun, attach_trial_run
from opttune.tracking.writer import TrackingWriter

__all__ = [
    "StudyRun",
    "Thinning",
    "Tracking",
    "TrackingWriter",
    "TrialRun",
    "attach_trial_run",
    "open_study_run",
    "read_curves",
    "resolve_tracking_uri",
    "safe_uri",
    "sync",
]

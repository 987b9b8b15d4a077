import inspect

from opttune.runtime.display import LiveReporter, PlainReporter, SilentReporter
from opttune.runtime.progress import ProgressReporter


def test_every_display_hears_all_that_a_watcher_hears() -> None:
    for name, heard in inspect.getmembers(ProgressReporter, inspect.isfunction):
        if name.startswith("_"):
            continue
        for display in (SilentReporter, PlainReporter, LiveReporter):
            assert inspect.signature(getattr(display, name)) == inspect.signature(heard), f"{display}.{name}"

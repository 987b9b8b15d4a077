"""Loading what a row names."""

import pytest

from opttune.build.load import load_class, load_object
from opttune.catalog.info import OptimizerInfo
from opttune.errors import MissingExtraError, OpttuneError


def row(path: str, extra: str = "") -> OptimizerInfo:
    return OptimizerInfo("mine", path, "mine", (), "mine", extra=extra)


def test_objects_are_returned_as_they_are() -> None:
    assert load_object(len) is len
    assert load_object("collections.OrderedDict").__name__ == "OrderedDict"


def test_a_missing_package_of_an_extra_is_named() -> None:
    words = (
        r"optimizer 'mine' needs a package that is not installed \(No module named 'nowhere'\)\. Install it with: pip"
    )
    with pytest.raises(MissingExtraError, match=words) as caught:
        load_class(row("nowhere.Mine", extra="mine"))
    assert isinstance(caught.value, OpttuneError)
    assert isinstance(caught.value, ImportError)


def test_any_other_missing_package_is_an_import_error() -> None:
    with pytest.raises(ModuleNotFoundError):
        load_class(row("nowhere.Mine"))

import json
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from opttune.guard.rules import Guard
from opttune.space.auto import ModelFacts
from opttune.storages.records import ORIGIN, OUT_DIR
from opttune.study.metadata import StudyMetadata
from opttune.training.inspection import ModelInspection
from tests.support.records import PLAN

INSPECTION = ModelInspection(
    "Net", 12, 50, "SGD(lr=0.1)", True, ModelFacts(parameters=12), groups="| g |", has_own_groups=True
)


def origin(uri: str = "sqlite:///x.db", **settings: object) -> StudyMetadata:
    return StudyMetadata.of(replace(PLAN, **settings), INSPECTION, uri)  # type: ignore[arg-type]


def test_it_holds_what_a_verdict_needs_and_json_holds_it() -> None:
    found = origin(
        references={"model": "/m.py:Net", "data": "d:make"}, trainer={"accelerator": "cpu", "callbacks": [object()]},
        guard=Guard(), budget=7,
    )  # fmt: skip

    assert (found.model, found.data, found.budget, found.is_guarded) == ("/m.py:Net", "d:make", 7.0, True)
    assert (dict(found.trainer), found.left_out) == ({"accelerator": "cpu"}, ("callbacks",))
    assert (found.replaced, found.has_own_groups, found.tracking_uri) == ("SGD(lr=0.1)", True, "sqlite:///x.db")
    assert StudyMetadata.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@pytest.mark.parametrize("uri", ["http://me:secret@host", "postgresql://me:secret@host/db"])
def test_an_address_with_a_password_is_not_kept(uri: str) -> None:
    assert origin(uri).tracking_uri == ""


def test_what_another_version_wrote_is_read() -> None:
    assert StudyMetadata.from_dict({"model": "m", "from the future": 1}) == StudyMetadata(model="m")
    assert StudyMetadata.from_dict({}) == StudyMetadata()


def test_it_is_kept_in_the_study_with_the_folder() -> None:
    study = optuna.create_study()
    origin().keep(study, Path("out"))

    assert StudyMetadata.from_dict(study.user_attrs[ORIGIN]) == origin()
    assert Path(study.user_attrs[OUT_DIR]).is_absolute()

import json

import pytest

from opttune.job import Role, TrainingJob
from opttune.recipe import Part, Recipe

RECIPE = Recipe(Part("sgd", {"lr": 0.1}))


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("recipe", [RECIPE, None])
def test_a_job_is_read_back_from_json_with_its_label(role: Role, recipe: Recipe | None) -> None:
    job = TrainingJob(recipe, 4, role, trial=3, label="sgd 0.1")
    again = TrainingJob.from_dict(json.loads(json.dumps(job.to_dict())))

    assert again == job
    assert again.label == "sgd 0.1"


def test_jobs_are_the_same_whatever_they_are_called_but_not_on_another_seed_or_for_another_purpose() -> None:
    job = TrainingJob(RECIPE, 4, Role.CONFIRMATION, label="one")

    assert len({job, TrainingJob(RECIPE, 4, Role.CONFIRMATION, label="another")}) == 1
    assert job != TrainingJob(RECIPE, 5, Role.CONFIRMATION)
    assert job != TrainingJob(RECIPE, 4, Role.REPLICATE)
    assert job != TrainingJob(None, 4, Role.CONFIRMATION)


def test_only_a_trial_is_no_auxiliary_run() -> None:
    assert [TrainingJob(RECIPE, 0, role).is_trial for role in Role] == [True, False, False, False]

"""The space of a user's own study: settled when the first fit begins, as a search settles its own."""

import os
from dataclasses import replace
from typing import Any

import optuna
import pytest
import torch
from torch import nn

import opttune
from opttune.build.module_facts import read_facts
from opttune.errors import InputError, ModelError, UnsuitableOptimizerError
from opttune.integration.sampler import OpttuneSampler
from opttune.integration.trial_callback import TrialCallback
from opttune.integration.trial_space import SpaceRequest, shared_space
from opttune.recipe import Recipe
from opttune.space.parse import load_space
from opttune.space.sample import default_recipe, sample_recipe
from opttune.space.settle import settle
from opttune.storages.open_storage import quiet_optuna
from opttune.storages.records import RECIPE
from opttune.training.own_optimizer import ask_own_optimizers, own_facts
from tests.support import models as m
from tests.support.searches import make_space

STEPS = 60


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with quiet_optuna():
        yield


def fit(callback: Any, model: Any = None, data: Any = None, **settings: Any) -> TrialCallback:
    trainer = m.quiet_trainer(callback, **{"max_steps": STEPS, **settings})
    trainer.fit(model or m.Net(), *(data or m.loaders()))
    found: TrialCallback = callback
    return found


def first(study: optuna.Study, space: Any = "auto", steps: int = STEPS, model: Any = None, **how: Any) -> Recipe:
    trial = study.ask()
    callback = fit(TrialCallback(trial, space, tracking=False, guard=False, **how), model, max_steps=steps)
    study.tell(trial, callback.result())
    return callback.recipe


def make_study(space: Any = "auto", **how: Any) -> optuna.Study:
    return optuna.create_study(sampler=OpttuneSampler(space, seed=0, **how))


def searched(space: str, steps: int = STEPS, model: Any = None, budget: float = 20.0) -> Any:
    """The space that `opttune.search` settles."""
    model = model or m.Net()
    own = ask_own_optimizers(model, model.configure_optimizers)
    facts = replace(read_facts(model, own.groups), own=own_facts(own))
    requested = load_space(space)
    return settle(requested, space, trainer={}, facts=facts, total_steps=steps, budget=budget).space


@pytest.mark.parametrize("space", ["auto", "wide", "adamw", "rnn"])
def test_the_first_recipe_of_a_study_is_that_of_a_search(space: str) -> None:
    assert first(make_study(space), space) == default_recipe(searched(space))


def test_in_a_short_training_the_first_rate_is_no_longer_ten_times_too_low() -> None:
    as_its_file_says = default_recipe(load_space("wide")).optimizer["lr"]
    found = first(make_study("wide"), "wide")
    assert found.optimizer.name == "adamw"
    assert found.optimizer["lr"] == 10 * float(str(as_its_file_says)) == 1e-2
    long = TrialCallback(make_study("wide").ask(), "wide", tracking=False, max_steps=30_000)
    assert long.recipe.optimizer["lr"] == 1e-3


@pytest.mark.slow
def test_a_search_and_a_study_of_ones_own_begin_alike(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = opttune.search(
        m.Net, m.loaders, max_steps=STEPS, budget=2, trials=1, baseline=False, progress=False, tracking_uri="sqlite:///a.db",
        trainer={"accelerator": "cpu"},
    )  # fmt: skip
    found = first(make_study(), budget=2)
    assert found.flat() == Recipe.from_dict(result.study.trials[0].user_attrs[RECIPE]).flat()


def test_without_an_opttune_sampler_trials_lie_in_the_settled_space() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(3):
        first(study)
    names = {branch.name for branch in searched("auto").optimizers}
    assert {trial.params["optimizer"] for trial in study.trials} <= names


def test_all_trials_sample_one_space_and_the_study_keeps_what_it_was_settled_for() -> None:
    study = make_study()
    for steps in (STEPS, 2 * STEPS, STEPS // 2):
        first(study, steps=steps)
    (kept,) = [value for name, value in study.user_attrs.items() if name.startswith("opttune.trial_space")]
    assert (kept["name"], kept["total_steps"]) == ("auto", STEPS)
    assert kept["notes"][0].startswith("The module is a network of")
    assert kept["space"] == searched("auto").to_dict()


@pytest.mark.slow
def test_a_trial_of_another_length_is_refused_with_two_ways_out() -> None:
    study = make_study()
    first(study)
    with pytest.raises(InputError, match=r"for trainings of 60 steps, and this one has 6000.*max_steps=60") as refused:
        first(study, steps=6_000)
    assert "\n" not in str(refused.value)
    # a way out, with a warning as the rate is that of short trainings
    with pytest.warns(UserWarning, match=r"60 steps \(max_steps\), and this one has 200"):
        fit(TrialCallback(study.ask(), tracking=False, max_steps=STEPS, model=m.Net), max_steps=200)


@pytest.mark.slow
def test_a_space_of_ones_own_is_sampled_as_its_file_says_at_any_length() -> None:
    space = make_space("optimizer: {adamw: {lr: {low: 1e-4, high: 1e-2, log: true, prior: 1e-3}}}")
    study = make_study(space)
    assert first(study, space).optimizer["lr"] == 1e-3
    first(study, space, steps=10 * STEPS)


def test_a_study_may_ask_for_several_spaces_of_ones_own() -> None:
    texts = [f"optimizer: {{{name}: {{lr: {{low: 1e-3, high: 1e-2, log: true}}}}}}" for name in ("adamw", "sgd")]
    adamw, sgd = map(make_space, texts)
    study = make_study(adamw)
    assert [first(study, space).optimizer.name for space in (adamw, sgd, adamw)] == ["adamw", "sgd", "adamw"]
    kept = shared_space(study.user_attrs, SpaceRequest.of(adamw))
    assert kept is not None
    assert list(kept["space"]["optimizer"]) == ["adamw"]
    assert shared_space(study.user_attrs, SpaceRequest.of("wide")) is None


def test_the_sampler_follows_a_space_that_it_was_not_given() -> None:
    study = make_study(load_space("wide"))
    assert first(study, "adamw") == default_recipe(searched("adamw"))


def test_parameters_of_ones_own_asked_before_the_fit_change_nothing() -> None:
    study = make_study()
    trial = study.ask()
    trial.suggest_float("dropout", 0, 1)
    callback = fit(TrialCallback(trial, tracking=False, guard=False))
    assert callback.recipe == default_recipe(searched("auto"))


def test_the_budget_says_how_much_varies() -> None:
    small, large = make_study(), make_study()
    first(small, budget=4)
    first(large, budget=30)
    assert len(large.trials[0].params) > len(small.trials[0].params)
    with pytest.raises(InputError, match="budget must be a number of full trainings above 0, got 0"):
        TrialCallback(small.ask(), budget=0)


class MadeLater(m.Net):
    """Has its layers and its loaders only once the fit has begun."""

    def __init__(self, hook: str = "setup") -> None:
        super().__init__()
        self.lr, self.hook = 1e-4, hook
        del self.net
        self.net: Any = None

    def make(self) -> None:
        self.net = nn.Sequential(nn.Embedding(4, 8), nn.Flatten(), nn.LSTM(32, 8), nn.Linear(8, 2))

    def loss(self, batch: Any) -> Any:
        x, y = batch
        inner = self.net[:2]((x > 0).long())
        return nn.functional.cross_entropy(self.net[3](self.net[2](inner)[0]), y)

    def setup(self, stage: str) -> None:
        if self.hook == "setup":
            self.make()

    def configure_model(self) -> None:
        if self.hook == "configure_model" and self.net is None:
            self.make()

    def train_dataloader(self) -> Any:
        assert self.net is not None
        return m.train_loader()

    def val_dataloader(self) -> Any:
        return m.val_loader()


@pytest.mark.parametrize("hook", ["setup", "configure_model"])
def test_layers_that_are_made_when_the_fit_begins_are_seen(hook: str) -> None:
    callback = TrialCallback(make_study().ask(), tracking=False, guard=False)
    m.quiet_trainer(callback, max_epochs=2).fit(MadeLater(hook))
    assert callback.recipe.optimizer.name == "adam"  # the first for recurrent networks
    assert callback.outcome is not None
    assert callback.outcome.steps == 2 * m.BATCHES


class Mixes(m.Net):
    """Attends by hand, as its classes do not say, and notes what it is trained with."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[torch.Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        x, y = batch
        self.batches.append(x.clone())
        tokens = x[:, :, None] * self.net[0].weight[:1]
        mixed = (tokens @ tokens.mT).softmax(-1) @ tokens
        return nn.functional.cross_entropy(self.net(mixed[..., 0]), y)


def notes_of(study: optuna.Study) -> str:
    space = shared_space(study.user_attrs, SpaceRequest.of("auto"))
    assert space is not None
    return " ".join(space["notes"])


def test_what_a_module_computes_is_seen_before_its_first_step_and_changes_nothing_of_the_training() -> None:
    torch.manual_seed(0)
    study, model = make_study(), Mixes()
    recipe = first(study, model=model, steps=6)
    assert "The module is a transformer." in notes_of(study)

    torch.manual_seed(0)
    other = Mixes()
    m.quiet_trainer(opttune.RecipeCallback(recipe), max_steps=6).fit(other, *m.loaders())
    assert len(model.batches) == len(other.batches) == 6
    assert all(torch.equal(one, two) for one, two in zip(model.batches, other.batches, strict=True))


class OneShot(m.Endless):
    """A stream whose batches come once."""

    def __init__(self) -> None:
        self.samples = super().__iter__()

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return next(self.samples)


def test_a_batch_that_would_be_missed_is_not_run_ahead() -> None:
    study, model = make_study(), Mixes()
    data = torch.utils.data.DataLoader(OneShot(), batch_size=4)
    fit(TrialCallback(study.ask(), tracking=False, guard=False), model, (data, m.val_loader()), max_steps=3)
    assert "without convolutions, attention or recurrence" in notes_of(study)
    assert torch.equal(model.batches[0], m.dataset().tensors[0][:4])


class Lazy(m.Net):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.LazyLinear(8), nn.Tanh(), nn.LazyLinear(2))


def test_lazy_layers_are_seen() -> None:
    assert first(make_study(), model=Lazy()) == default_recipe(searched("auto"))


class Sparse(m.Net):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(2, 4, sparse=True)

    def loss(self, batch: Any) -> Any:
        x, y = batch
        return nn.functional.cross_entropy(self.net(x + self.table((x[:, 0] > 0).long())), y)


def test_what_cannot_train_the_module_is_left_out_or_refused() -> None:
    study = make_study("wide")
    assert first(study, "wide", model=Sparse()).gradient_clip_norm is None
    with pytest.raises(UnsuitableOptimizerError, match="sparse gradients"):
        first(make_study("muon"), "muon", model=Sparse())


def test_what_the_trainer_sets_itself_is_not_sampled() -> None:
    space = make_space(
        """
        optimizer: {adamw: {lr: 1e-3}}
        gradient_clip_norm: {choices: [0.5, 1.0], source: test}
        accumulate_grad_batches: {choices: [1, 2], source: test}
        """
    )
    trial = optuna.create_study().ask()
    callback = fit(TrialCallback(trial, space, tracking=False), gradient_clip_val=0.25, accumulate_grad_batches=4)
    assert trial.params == {}
    assert (callback.recipe.gradient_clip_norm, callback.recipe.accumulate_grad_batches) == (0.25, 4)
    other = optuna.create_study().ask()
    fit(TrialCallback(other, space, tracking=False))
    assert set(other.params) == {"gradient_clip_norm", "accumulate_grad_batches"}


PRECISE = make_space("optimizer: {adamw: {lr: 1e-2}}\nprecision: {choices: [bf16-true, 64-true], source: test}")


def test_a_precision_that_varies_needs_the_recipe_before_the_trainer() -> None:
    with pytest.raises(InputError, match=r"varies precision.*give TrialCallback max_steps="):
        fit(TrialCallback(optuna.create_study().ask(), PRECISE, tracking=False))
    callback = TrialCallback(make_study(PRECISE).ask(), PRECISE, tracking=False, max_steps=STEPS)
    assert callback.recipe.precision == "bf16-true"

    class Cast(m.Net):
        def loss(self, batch: Any) -> Any:
            return super().loss((batch[0].to(torch.bfloat16), batch[1]))

    fit(callback, Cast(), precision=callback.recipe.precision)
    assert callback.outcome is not None
    assert callback.outcome.steps == STEPS


def test_with_the_length_and_the_module_the_recipe_is_there_at_once() -> None:
    early = TrialCallback(make_study().ask(), tracking=False, guard=False, max_steps=STEPS, model=m.Net)
    assert early.recipe == default_recipe(searched("auto"))
    again = TrialCallback(make_study().ask(), tracking=False, guard=False, max_steps=STEPS, model=m.Net())
    assert again.recipe == fit(early).recipe


def test_making_a_model_to_read_leaves_the_random_state_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    TrialCallback(make_study().ask(), tracking=False, max_steps=STEPS, model=m.Net)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"max_steps": 60}, "max_steps= needs model= as well"),
        ({"model": m.Net}, "model= has no effect without max_steps="),
        ({"max_steps": 0, "model": m.Net}, "max_steps must be a whole number of at least 1, got 0"),
        ({"max_steps": True, "model": m.Net}, "whole number"),
    ],
)
def test_arguments_that_say_too_little_are_refused(how: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=f"TrialCallback: .*{said}"):
        TrialCallback(optuna.create_study().ask(), **how)
    with pytest.raises(InputError, match=f"OpttuneSampler: .*{said}"):
        OpttuneSampler("auto", **how)


def test_before_the_fit_there_is_no_recipe() -> None:
    callback = TrialCallback(optuna.create_study().ask(), tracking=False)
    with pytest.raises(InputError, match=r"sampled when trainer.fit starts.*give TrialCallback max_steps="):
        _ = callback.recipe


def test_the_recipe_is_there_from_the_fits_begin_on() -> None:
    seen = []

    class Look(m.AnyCallback):
        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            seen.append(callback.recipe)

    callback = TrialCallback(make_study().ask(), tracking=False, guard=False)
    m.quiet_trainer(Look(), callback, max_steps=STEPS).fit(m.Net(), *m.loaders())
    assert seen == [callback.recipe]


def test_an_error_before_the_recipe_is_there_is_told_and_leaves_the_module_as_it_was() -> None:
    model = m.Net()
    callback = TrialCallback(optuna.create_study().ask(), tracking=False)
    with pytest.raises(ModelError, match="Give max_steps"):
        m.quiet_trainer(callback, max_epochs=1).fit(model, m.stream_loader(), m.val_loader())
    assert "configure_optimizers" not in vars(model)
    assert callback.outcome is not None
    assert "Give max_steps" in callback.outcome.message


def test_the_sampler_alone_is_settled_for_the_length_that_it_is_given() -> None:
    for space, how in (("wide", {}), ("auto", {"model": m.Net})):
        settled = searched(space)
        study = make_study(space, max_steps=STEPS, **how)
        assert sample_recipe(settled, study.ask()) == default_recipe(settled)
    assert sample_recipe(load_space("wide"), make_study("wide").ask()).optimizer["lr"] == 1e-3


def test_a_study_of_before_samples_on_as_it_began() -> None:
    study = make_study("wide")
    for _ in range(2):
        trial = study.ask()
        trial.set_user_attr(RECIPE, sample_recipe(load_space("wide"), trial).to_dict())
        study.tell(trial, 1.0)
    first(study, "wide")
    assert study.trials[2].distributions["optimizer"] == study.trials[0].distributions["optimizer"]
    assert study.trials[2].distributions["schedule"] == study.trials[0].distributions["schedule"]


@pytest.mark.slow
def test_a_study_taken_up_again_samples_the_same_space(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    for number in range(2):
        study = optuna.create_study(
            study_name="s", storage=url, load_if_exists=True, sampler=OpttuneSampler("auto", seed=0)
        )
        first(study)
        assert len(study.trials) == number + 1
    whole = make_study()
    for _ in range(2):
        first(whole)
    assert [trial.params for trial in study.trials] == [trial.params for trial in whole.trials]


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint")
def test_a_fit_that_is_resumed_continues_with_its_trials_recipe(tmp_path: Any) -> None:
    study = make_study()
    trial = study.ask()
    trainer = m.quiet_trainer(TrialCallback(trial, tracking=False, guard=False), max_steps=30)
    trainer.fit(m.Net(), *m.loaders())
    trainer.save_checkpoint(tmp_path / "at.ckpt")
    callback = TrialCallback(trial, tracking=False, guard=False)
    whole = m.quiet_trainer(callback, max_steps=60)
    whole.fit(m.Net(), *m.loaders(), ckpt_path=tmp_path / "at.ckpt")
    assert whole.global_step == 60
    assert callback.recipe == Recipe.from_dict(study.trials[0].user_attrs[RECIPE])


def test_a_fixed_trial_has_its_settled_space_for_itself() -> None:
    trial = optuna.trial.FixedTrial({"adamw.lr": 2e-4, "schedule": "cosine"})
    callback = TrialCallback(trial, "adamw", tracking=False, budget=5)
    assert fit(callback).recipe.optimizer["lr"] == 2e-4


@pytest.mark.parametrize("is_rank", [True, False])
def test_a_further_rank_samples_nothing_before_the_fit(is_rank: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "LOCAL_RANK", "1" if is_rank else "0")
    trial = optuna.create_study().ask()
    callback = TrialCallback(trial, "adamw", tracking=False, max_steps=STEPS)
    assert (trial.params == {}) is is_rank
    if is_rank:
        with pytest.raises(InputError, match=r"sampled when trainer\.fit starts"):
            _ = callback.recipe

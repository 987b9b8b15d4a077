"""The search benchmark's own logic: lookups, costs, records, and the real loop on a tiny table."""

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import opttune
from opttune.algorithms.rungs import halving_for
from opttune.guard.rules import Guard
from opttune.outcome import StopReason
from opttune.recipe import Part, Recipe
from opttune.space.model import Branch, Choice, Range, Space
from opttune.training.attempt import Attempt, NullListener

STEPS = 100
RATES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """Import a module of the benchmarks by its name."""
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def table(bench: Any) -> Any:
    """Ten configurations: AdamW is best at 1e-2, SGD at 1e-1; a rate of 1 diverges."""
    rows = [{"optimizer": name, "lr": lr} for name in ("adamw", "sgd") for lr in RATES]
    final = np.array([4.0, 3.0, 1.0, 2.0, np.nan, 4.5, 3.5, 2.5, 1.5, np.nan])
    eval_steps = np.arange(1, 11) * (STEPS // 10)
    values = final[:, None] + np.linspace(1, 0, 10)
    losses = np.ones((10, STEPS))
    losses[np.isnan(final), 5:] = np.nan
    lr = Range(RATES[0], RATES[-1], "log", prior=1e-2)
    branches = tuple(Branch(name, (("lr", lr),)) for name in ("adamw", "sgd"))
    return bench("search_bench.tables").Table(
        "own/tiny", Space("tiny", branches), rows, STEPS, eval_steps, values, np.arange(1, STEPS + 1), losses
    )


class RungAttempt:
    """An attempt that ends at a rung, or resumes from one."""

    def __init__(self, lr: float, until_step: int | None, checkpoint: Path, resume_from: Path | None = None) -> None:
        self.recipe = Recipe(Part("adamw", {"lr": lr}))
        self.monitor, self.guard = "val_loss", Guard()
        self.until_step, self.checkpoint, self.resume_from = until_step, checkpoint, resume_from


def test_a_recipe_is_looked_up_at_the_nearest_recorded_rate(table: Any) -> None:
    assert table.find({"optimizer": "adamw", "lr": 0.02}) == 2
    assert table.find({"optimizer": "adamw", "lr": 0.04}) == 3
    assert table.find({"optimizer": "sgd", "lr": 1e-9, "schedule": "constant"}) == 5


def test_a_recipe_that_was_never_recorded_is_refused(table: Any) -> None:
    with pytest.raises(KeyError):
        table.find({"optimizer": "lion", "lr": 0.02})


def test_the_value_at_a_step_is_that_of_the_last_validation(table: Any) -> None:
    assert table.value_at(2, 9) is None
    assert table.value_at(2, 39) == table.values[2, 2]
    assert table.value_at(2, STEPS) == 1.0
    assert table.value_at(4, STEPS) is None


def test_quantiles_start_at_the_best_and_diverged_configurations_share_the_worst(table: Any) -> None:
    assert table.quantiles[2] == 0
    assert table.quantiles[8] == pytest.approx(1 / 9)
    assert table.quantiles[4] == table.quantiles[9] == pytest.approx(8 / 9)


def test_the_guard_stops_a_recorded_curve_where_it_would_have_stopped_the_training(table: Any) -> None:
    verdict = table.verdict(4, Guard())

    assert (verdict.reason, verdict.step) == (StopReason.NON_FINITE, 6)
    assert table.verdict(2, Guard()) is None


def test_a_full_training_pays_its_length_and_a_diverged_one_the_steps_until_the_guard(
    bench: Any, table: Any, tmp_path: Path
) -> None:
    engine_module = bench("search_bench.table_engine")
    meter = engine_module.Meter(table)
    engine = engine_module.TableEngine(meter)
    good = Attempt(
        Recipe(Part("adamw", {"lr": 1e-2})), "val_loss", 0, guard=Guard(), checkpoint=tmp_path / "folder" / "a.ckpt"
    )

    outcome = engine(good, NullListener())
    diverged = engine(Attempt(Recipe(Part("adamw", {"lr": 1.0})), "val_loss", 0, guard=Guard()), NullListener())

    assert (outcome.reason, outcome.value, outcome.steps) == (StopReason.COMPLETED, 1.0, STEPS)
    assert (diverged.reason, diverged.value, diverged.steps) == (StopReason.NON_FINITE, None, 6)
    assert meter.spent == STEPS + 6
    assert meter.finished == [(STEPS, 2)]
    assert (tmp_path / "folder" / "a.ckpt").exists()


@pytest.mark.skipif("paused" not in set(StopReason), reason="trials cannot pause yet")
def test_a_resumed_training_pays_only_what_lies_beyond_its_checkpoint(bench: Any, table: Any, tmp_path: Path) -> None:
    engine_module = bench("search_bench.table_engine")
    meter = engine_module.Meter(table)
    engine = engine_module.TableEngine(meter)

    paused = engine(RungAttempt(1e-2, 10, tmp_path / "a.ckpt"), NullListener())
    resumed = engine(RungAttempt(1e-2, None, tmp_path / "b.ckpt", tmp_path / "a.ckpt"), NullListener())

    assert (str(paused.reason), paused.value, paused.steps) == ("paused", table.values[2, 0], 10)
    assert (resumed.reason, resumed.value, resumed.steps) == (StopReason.COMPLETED, 1.0, STEPS)
    assert meter.spent == STEPS
    assert meter.finished == [(STEPS, 2)]


def test_the_real_loop_searches_a_table_within_its_budget_and_finds_its_best(bench: Any, table: Any) -> None:
    meter = bench("search_bench.ours").replay_ours(table, budget=6, seed=0)

    best = bench("search_bench.table_engine").best_so_far(meter.finished, table)
    assert 5 * STEPS < meter.spent <= 6 * STEPS
    assert best[-1][1] == 0


def test_the_same_seed_searches_alike(bench: Any, table: Any) -> None:
    replay = bench("search_bench.ours").replay_ours

    assert replay(table, 5, 3).finished == replay(table, 5, 3).finished


@pytest.mark.parametrize("method", ["random", "tpe_median", "expert_hyperband"])
@pytest.mark.filterwarnings("ignore")
def test_optunas_methods_stay_within_the_budget(bench: Any, table: Any, method: str) -> None:
    module = bench("search_bench.with_optuna")

    meter = module.replay_optuna(table, 12, 0, module.OPTUNA[method])

    assert 11 * STEPS < meter.spent <= 12 * STEPS
    assert meter.finished


@pytest.mark.parametrize(("budget", "trainings"), [(1.5, 1), (4.1, 3)])
def test_successive_halving_alone_trains_what_is_best_on_the_way(
    bench: Any, table: Any, budget: float, trainings: int
) -> None:
    often = np.arange(1, 51) * 2
    values = table.values[:, -1:] + np.linspace(1, 0, 50)
    table = replace(table, eval_steps=often, values=values)
    meter = bench("search_bench.halving_alone").replay_halving(table, budget, seed=0)
    # all ten configurations are looked at: there are fewer than its draws
    assert [row for _, row in meter.finished] == [2] * trainings
    assert meter.spent <= budget * table.steps


def test_people_ask_for_one_rate_and_an_expert_for_one_an_optimizer(bench: Any, table: Any) -> None:
    import optuna

    module = bench("search_bench.with_optuna")
    trial = optuna.create_study().ask()
    recipe = module.shared_recipe(table.space, trial)

    assert set(trial.params) == {"optimizer", "lr"}
    assert recipe.optimizer["lr"] == trial.params["lr"]


def test_a_wrong_prior_is_wrong_by_those_decades_within_the_range(bench: Any, table: Any) -> None:
    with_lr_priors = bench("search_bench.tables").with_lr_priors
    priors = [with_lr_priors(table.space, change).optimizers[0].get("lr").prior for change in (-1.5, 1.5, 3, None)]

    assert priors[:2] == pytest.approx([10**-3.5, 10**-0.5])
    assert priors[2:] == [1.0, None]


def test_a_table_of_all_combinations_has_them_as_its_space(bench: Any) -> None:
    rows = [
        {"optimizer": "adamw", "lr": lr, "schedule": schedule, "warmup_fraction": warmup}
        for lr in (1e-3, 1e-1)
        for schedule in ("linear", "cosine")
        for warmup in (0.0, 0.1)
    ]
    made = bench("search_bench.load_tables").factorial(
        "recorded/x", rows, np.array([5, 10]), np.ones((8, 2)), np.ones((8, 10))
    )
    fields = dict(made.space.parameters())

    assert fields["cosine.warmup_fraction"] == Choice((0.0, 0.1), start=1)
    assert [branch.name for branch in made.space.schedules] == ["cosine", "linear"]
    assert fields["adamw.lr"] == Range(1e-3, 1e-1, "log", prior=1e-2)
    assert made.find({"optimizer": "adamw", "lr": 0.2, "schedule": "cosine", "warmup_fraction": 0.1}) == 7


def test_no_table_and_no_task_is_on_both_sides_of_the_split(bench: Any) -> None:
    tables, tasks = bench("search_bench.tables"), bench("search_bench.tasks")

    names = [name for group in tables.GROUPS.values() for name in group]
    assert len(set(names)) == len(names)
    assert set(tasks.DEVELOP) < set(tasks.TASKS)
    long = bench("search_bench.long_tasks")
    assert sorted((*long.LONG_DEVELOP, *long.LONG_REPORT)) == sorted(long.LONG_TASKS)
    assert not set(long.LONG_TASKS) & set(tasks.TASKS)


def test_the_cost_to_the_top_is_the_budget_where_it_is_never_reached(bench: Any) -> None:
    report, record = bench("search_bench.replay_report"), bench("search_bench.replay").Record
    found = record("own/x", "ours", 0, 25.0, 24.5, ((1.0, 0.3), (4.0, 0.04)))
    missed = record("own/x", "ours", 1, 25.0, 24.5, ((1.0, 0.3),))

    assert (report.cost_to_top(found), report.cost_to_top(missed)) == (4.0, 25.0)
    assert [report.best_at(found, cost) for cost in (0.5, 3, 20)] == [1.0, 0.3, 0.04]


def test_a_live_search_is_measured_by_when_it_reached_the_references_final_best(bench: Any, tmp_path: Path) -> None:
    records, report = bench("search_bench.live_records"), bench("search_bench.live_report")

    def made(method: str, *trials: tuple[int, float | None]) -> Any:
        trained = tuple(records.Trained(spent, value) for spent, value in trials)
        return records.LiveRecord("mlp", method, 0, 20.0, 100, trained, 1.0)

    reference = made("tpe_median", (100, 0.9), (150, None), (250, 0.5), (350, 0.1))
    quick, missed = made("ours", (20, None), (50, 0.4), (150, 0.3)), made("ours", (300, 0.6))

    # the fourth trial is beyond the three that count here
    assert report.cost_ratio(quick, reference, trials=3) == 50 / 250
    assert report.cost_ratio(missed, reference, trials=3) == 300 / 250
    assert quick.best_at(1) == 0.4
    file = tmp_path / "live.jsonl"
    file.write_text(reference.to_json() + "\n" + quick.to_json() + "\n")
    assert records.read_records([file, tmp_path / "none.jsonl"]) == [reference, quick]
    # a method of another environment is shown too, last
    shown = report.write_report([made("elsewhere", (70, 0.1)), reference, made("ours", (140, 0.1))])
    rows = [line.split()[:2] for line in shown.splitlines() if line.startswith(("ours", "elsewhere"))]
    assert rows[:2] == [["ours", "0.400"], ["elsewhere", "0.200"]]


def test_what_neps_chooses_becomes_a_recipe(bench: Any) -> None:
    chosen = {
        "adamw.lr": 2e-4, "adamw.beta2": 0.05, "adamw.weight_decay": 0.1, "schedule": "cosine",
        "cosine.warmup_fraction": 0.02, "cosine.final_lr_fraction": "0.1", "linear.warmup_fraction": 0.07,
    }  # fmt: skip
    flat = bench("search_bench.with_neps").recipe_of(opttune.load_space("adamw"), chosen).flat()

    # on the scale log_of_one_minus NePS searches 1 - beta2
    assert (flat["optimizer"], flat["lr"], flat["beta2"], flat["weight_decay"]) == ("adamw", 2e-4, 0.95, 0.1)
    assert (flat["schedule"], flat["warmup_fraction"], flat["final_lr_fraction"]) == ("cosine", 0.02, 0.1)


def test_an_interval_is_as_wide_as_the_tables_differ_however_many_seeds_there_are(bench: Any) -> None:
    statistics = bench("search_bench.statistics")
    values, tables = [1.0] * 50 + [3.0] * 50, ["a"] * 50 + ["b"] * 50

    estimate = statistics.mean(values, tables)
    against = statistics.ratio(values, [2 * value for value in values], tables)
    geometric = statistics.geometric_mean([0.1, 1000.0], ["a", "a"])

    assert (estimate.value, estimate.low, estimate.high) == (2, 1, 3)
    assert (against.low, against.value, against.high) == pytest.approx((0.5, 0.5, 0.5))
    assert geometric.value == pytest.approx(10)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["expert_median", "ours_no_muon"])
def test_a_real_task_is_searched_to_a_budget(bench: Any, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    pytest.importorskip("optuna_integration")
    live = bench("search_bench.live")
    monkeypatch.setattr(bench("search_bench.live_optuna"), "TRIALS", 2)

    record = live.run_live(("autoencoder", method, 0, 2.0))

    assert record.steps < record.spent <= 2 * record.steps
    assert record.best() < 0.2


def test_mnist1d_is_what_its_authors_make(bench: Any) -> None:
    signals, labels, val_signals, val_labels = bench("search_bench.data").mnist1d(100)

    assert (signals.shape, val_signals.shape) == ((80, 40), (20, 40))
    assert sorted({*labels.tolist(), *val_labels.tolist()}) == list(range(10))
    assert bool(signals.isfinite().all())


def test_a_part_is_left_out_while_its_search_runs(bench: Any) -> None:
    ablations = bench("search_bench.ablations")
    assert halving_for(5_000).races
    for method, parts in ablations.ABLATIONS.items():
        before = [getattr(owner, name) for owner, name, _ in parts]
        with ablations.left_out(method):
            assert halving_for(5_000).races == (method != "ours:no_race")
            assert all(getattr(owner, name) is replacement for owner, name, replacement in parts)
        assert [getattr(owner, name) for owner, name, _ in parts] == before


def test_the_average_of_the_weights_is_validated_beside_each_look(bench: Any) -> None:
    table = bench("record_table")
    problem = replace(table.PROBLEMS["long_regression"], steps=1_000)
    recipe = Recipe(Part("adamw", {"lr": 1e-3}), Part("cosine", {"warmup_fraction": 0.05}))
    recorded = table.train(problem, recipe)
    training, weights = table.Training(problem, recipe), []
    for step in range(50):
        training.step(step)
        weights.append(training.weights())
    # looks at 2% and 5%, each with the average over the last fifth
    expected = [training.validate_at(sum(weights[end - end // 5 : end]) / (end // 5)) for end in (20, 50)]
    assert recorded["averaged"][:2] == pytest.approx(expected, rel=1e-5)
    assert recorded["val_loss"][0] == pytest.approx(training.validate(), rel=1e-6)


def test_a_search_whose_decisions_do_not_depend_on_the_budget_is_run_once(bench: Any) -> None:
    make_keys = bench("search_bench.live").make_keys

    keys = make_keys(["long_table"], ["own", "enqueued", "ours"], [3], None)

    assert keys[:2] == [("long_table", "own", 3, 1.0), ("long_table", "enqueued", 3, 10.0)]
    assert [key[3] for key in keys[2:]] == [1.5, 3.0, 5.0, 10.0]
    assert make_keys(["mlp"], ["ours"], [0], None) == [("mlp", "ours", 0, 20.0)]
    with pytest.raises(SystemExit, match="mlp brings no good recipe"):
        make_keys(["mlp"], ["enqueued"], [0], None)


def test_long_searches_are_measured_by_the_modules_own_recipe(bench: Any) -> None:
    records, report = bench("search_bench.live_records"), bench("search_bench.long_report")

    def made(method: str, budget: float, *trials: tuple[int, float | None], handed: float | None = None) -> Any:
        trained = tuple(records.Trained(spent, value) for spent, value in trials)
        return records.LiveRecord("long_table", method, 0, budget, 100, trained, 1.0, handed)

    own = made("own", 1.0, (100, 1.0))
    peer = made("enqueued", 10.0, (100, 1.0), (250, 0.8), (350, None), (1000, 0.5))
    lucky = made("ours", 3.0, (100, 0.4), (300, 1.0), handed=1.25)
    large = made("ours", 10.0, (200, 0.5), (900, 0.4), handed=0.4)
    nothing = made("neps_priorband", 1.5, (30, None))
    found = {(cell.method, cell.budget): cell for cell in report.cells_of([own, peer, lucky, large, nothing])}

    # the peer's curve is read at 1.5, 3 and 5; what depends on its budget is not
    assert [found["enqueued", budget].ratio for budget in (1.5, 3.0, 5.0, 10.0)] == [1.0, 0.8, 0.8, 0.5]
    assert [budget for method, budget in found if method == "ours"] == [3.0, 10.0]
    # what was handed out counts, whatever was better on the way; who is handed nothing keeps the own recipe
    assert (found["ours", 3.0].ratio, found["neps_priorband", 1.5].ratio) == (1.25, 1.0)
    assert report.cost_to(large, peer) == 0.2
    assert report.mean_ranks(list(found.values()), 3.0) == {"enqueued": (1.0, 1), "ours": (2.0, 1)}
    shown = report.write_long_report([own, peer, lucky, large, nothing])
    assert "0 / 1 / 1" in shown
    assert "0 / 0 + 1 nothing / 1" in shown
    assert "ours 0.200 [0.200, 0.200] (1 of 1) - 0 of 1 - 1 of 1" in " ".join(shown.split())
    assert "  2.00" in report.write_log([large])


def test_the_pretrained_weights_are_the_same_for_every_seed_and_draw_nothing(
    bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretrained = bench("search_bench.pretrained")
    monkeypatch.setattr(pretrained, "STEPS", 3)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    pretrained._weights.cache_clear()

    drawn = []
    for _ in range(2):
        torch.manual_seed(7)
        trunk = pretrained.pretrained_trunk()
        drawn.append((trunk.state_dict(), torch.rand(1)))
    pretrained._weights.cache_clear()
    torch.manual_seed(7)

    assert all(torch.equal(drawn[0][0][name], value) for name, value in drawn[1][0].items())
    assert drawn[0][1] == drawn[1][1] == torch.rand(1)
    assert len([*tmp_path.iterdir()]) == 1


@pytest.mark.slow
def test_a_long_task_is_as_long_as_its_data_make_it(bench: Any) -> None:
    for name, task in bench("search_bench.long_tasks").LONG_TASKS.items():
        assert len(task.data()[0]) * task.epochs == task.steps, name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_recipes_of_the_tasks_for_development_train(bench: Any) -> None:
    long, enqueued = bench("search_bench.long_tasks"), bench("search_bench.enqueued")
    for name in long.LONG_DEVELOP:
        task = long.LONG_TASKS[name]
        lengths = [replace(task, steps=epochs * task.steps // task.epochs) for epochs in (1, 3)]
        short, longer = (enqueued.run_own(one, seed=0)[0].value for one in lengths)
        assert longer < short, name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_good_recipe_is_the_peers_first_trial_and_the_searchs_baseline(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, long = bench("search_bench.live"), bench("search_bench.long_tasks")
    short = {name: replace(long.LONG_TASKS[name], epochs=1, steps=64) for name in ("long_table",)}
    monkeypatch.setattr(live, "ALL_TASKS", short)

    own, peer, adamw, ours = (
        live.run_live(("long_table", method, 0, budget))
        for method, budget in (("own", 1.0), ("enqueued", 2.0), ("enqueued_adamw", 2.0), ("ours", 3.0))
    )

    assert own.trials[0].value == peer.trials[0].value == adamw.trials[0].value
    assert own.trials[0].value in [one.value for one in ours.trials if "own()" in one.recipe]
    assert adamw.trials[1].recipe == "adamw(lr=0.001, weight_decay=0.01, warmup=0.05)"
    assert (peer.spent, ours.handed) == (128, min(own.best(), ours.best()))


def test_language_models_are_looked_at_in_their_shorter_trainings(bench: Any) -> None:
    folder = BENCHMARKS.parents[1] / "shared" / "data" / "lm_schedules"
    if not folder.is_dir():
        pytest.skip("the recorded language models are not here")
    table = bench("search_bench.lm_schedules").load_lm_schedules(folder)
    row = table.find({"optimizer": "adamw", "lr": 1e-3, "schedule": "wsd", "cooldown_fraction": 0.2})

    # of the data's own file: ann124-0.2, linear, lr 0.001, at 15,000 and 50,000 steps
    assert table.look_at(row, 12_500) == pytest.approx(3.071903, abs=1e-6)
    assert table.final_values[row] == pytest.approx(2.930310, abs=1e-6)
    assert len(table.rows) == 18

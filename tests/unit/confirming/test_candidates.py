import torch
from torch import nn

from opttune.build.optimizer import build_optimizer
from opttune.confirming.candidates import Candidate, adamw_default, choose_candidates
from tests.support.records import record, stored


def labels(candidates: list[Candidate]) -> list[str]:
    return [candidate.label for candidate in candidates]


def test_the_best_the_baseline_and_adamws_default_are_trained() -> None:
    study = stored([record(0, 0.3), record(1, 0.1, lr=3.1e-4), record(2, 0.2, optimizer="muon", lr=2e-2), record(3)])
    chosen = choose_candidates(study, top=2)

    assert labels(chosen) == ["adamw 3.1e-4", "muon 2e-2", "your optimizer", "AdamW's default"]
    assert [candidate.kind for candidate in chosen] == ["trial", "trial", "own", "adamw"]
    assert [candidate.numbers for candidate in chosen] == [(1,), (2,), (), ()]


def test_a_recipe_that_was_tried_twice_is_trained_once() -> None:
    chosen = choose_candidates(stored([record(0, 0.3, lr=0.1), record(1, 0.2, lr=0.1), record(2, 0.5)]), top=3)

    assert [candidate.numbers for candidate in chosen if candidate.kind == "trial"] == [(1, 0), (2,)]


def test_recipes_of_one_name_are_told_apart_by_their_trial() -> None:
    chosen = choose_candidates(stored([record(0, 0.3, lr=0.101), record(1, 0.2, lr=0.104)]), top=2)

    assert labels(chosen)[:2] == ["adamw 1e-1 (trial 1)", "adamw 1e-1 (trial 0)"]


def test_a_module_without_an_optimizer_is_not_trained_as_a_baseline() -> None:
    chosen = choose_candidates(stored([record(0, 0.3)], origin={"has_own_optimizer": False}), top=1)

    assert labels(chosen) == ["adamw 1e-3", "AdamW's default"]


def test_of_a_metric_that_is_to_rise_the_highest_is_the_best() -> None:
    chosen = choose_candidates(stored([record(0, 0.3), record(1, 0.9)], None, mode="max"), top=1)

    assert chosen[0].numbers == (1,)


def test_a_baseline_that_is_handed_out_comes_first() -> None:
    chosen = choose_candidates(stored([record(0, 9.0)]), top=1)

    assert [candidate.kind for candidate in chosen] == ["own", "trial", "adamw"]


def test_adamws_default_is_torchs() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))
    built = build_optimizer(adamw_default(), net, total_steps=10)
    torchs = torch.optim.AdamW(net.parameters())

    (group,) = built.param_groups
    assert {name: group[name] for name in ("lr", "betas", "eps", "weight_decay")} == {
        name: torchs.defaults[name] for name in ("lr", "betas", "eps", "weight_decay")
    }


def test_a_candidate_is_read_back_as_it_was() -> None:
    for candidate in choose_candidates(stored([record(0, 0.3)]), top=1):
        assert Candidate.from_dict(candidate.to_dict()) == candidate

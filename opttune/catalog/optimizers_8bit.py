"""Optimizers with 8-bit state, from the extra `8bit`."""

from opttune.catalog import options as o
from opttune.catalog.info import OptimizerInfo
from opttune.catalog.optimizers_sign import LION_BETAS, LION_LR

_SMALL = "The state of tensors with fewer than 4,096 numbers keeps 32 bits."

EIGHT_BIT_OPTIMIZERS = (
    OptimizerInfo(
        name="adamw_8bit",
        class_path="bitsandbytes.optim.AdamW8bit",
        summary="AdamW with its state in 8 bits: a quarter of the memory",
        options=(
            o.adam_like_lr(1e-3, f"{o.ALGOPERF}: AdamW's, 1e-4 to 1e-2"),
            o.betas(0.9, 0.999),
            o.eps(1e-8),
            o.decoupled_decay(1e-2),
        ),
        source="Dettmers et al. 2021, arxiv.org/abs/2110.02861",
        code="github.com/bitsandbytes-foundation/bitsandbytes",
        state_bytes=2.37,
        takes_complex=False,
        extra="8bit",
        advice=_SMALL,
    ),
    OptimizerInfo(
        name="lion_8bit",
        class_path="bitsandbytes.optim.Lion8bit",
        summary="Lion with its state in 8 bits: one byte per weight",
        options=(LION_LR, LION_BETAS, o.decoupled_decay(0.1)),
        source="Chen et al. 2023, arxiv.org/abs/2302.06675; Dettmers et al. 2021, arxiv.org/abs/2110.02861",
        code="github.com/bitsandbytes-foundation/bitsandbytes",
        state_bytes=1.19,
        takes_complex=False,
        extra="8bit",
        advice=_SMALL,
    ),
)

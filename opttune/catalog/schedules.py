"""The schedules, one row each. The formulas are in `opttune.build.shapes`."""

from opttune.catalog.info import OptionInfo, ScheduleInfo
from opttune.catalog.ranges import SearchChoices, SearchRange

_WSD = "arxiv.org/abs/2405.18392"
_MARIN = "marin optimizer sweeps behind arxiv.org/abs/2509.02046"

WARMUP_FRACTION = OptionInfo(
    "warmup_fraction",
    0.0,
    low=0,
    high=1,
    excluded="high",
    search=(
        SearchRange(5e-3, 0.2, 0.05, "log", "AlgoPerf: 0.05; DeiT: 0.017; torchtune, MAE: 0.03 to 0.1", 10, (0.0,)),
    ),
    help="share of all optimizer steps spent raising the rate linearly to lr",
    rises="warmup",
)


def _floor(default: float = 0.0) -> OptionInfo:
    search = SearchRange(1e-3, 0.3, 0.1, "log", "nanoGPT: 0.1; AlgoPerf: 1e-3 and 1e-2; marin: 0", 25, (0.0,))
    return OptionInfo("final_lr_fraction", default, low=0, high=1, search=(search,), help="share of lr left at the end")


_DECAY_FACTOR = OptionInfo(
    "decay_factor",
    0.1,
    low=0,
    high=1,
    excluded="both",
    search=(SearchRange(0.1, 0.5, 0.1, "log", "0.1 in ImageNet recipes, 0.2 for arxiv.org/abs/1605.07146", 10),),
    help="factor of the rate at each drop",
)
_CYCLES = OptionInfo(
    "cycle_count",
    4,
    "int",
    low=1,
    search=(SearchChoices((1, 2, 4, 8), 4, "arxiv.org/abs/1608.03983 and 1506.01186: a few"),),
    help="cycles in all",
)

SCHEDULES: tuple[ScheduleInfo, ...] = (
    ScheduleInfo(
        name="constant",
        shape="opttune.build.shapes.constant",
        summary="the peak rate throughout",
        options=(WARMUP_FRACTION,),
        source="torch.optim.lr_scheduler.ConstantLR with factor 1",
    ),
    ScheduleInfo(
        name="linear",
        shape="opttune.build.shapes.linear",
        summary="a straight line down to the floor",
        options=(WARMUP_FRACTION, _floor()),
        source="Bergsma et al. 2025, arxiv.org/abs/2502.15938",
    ),
    ScheduleInfo(
        name="cosine",
        shape="opttune.build.shapes.cosine",
        summary="half a cosine down to the floor",
        options=(WARMUP_FRACTION, _floor()),
        source="Loshchilov and Hutter 2016, arxiv.org/abs/1608.03983",
    ),
    ScheduleInfo(
        name="wsd",
        shape="opttune.build.shapes.warmup_stable_decay",
        summary="the peak rate, then a short fall to the floor (warmup-stable-decay, trapezoid)",
        options=(
            WARMUP_FRACTION,
            OptionInfo(
                "cooldown_fraction",
                0.2,
                low=0,
                high=1,
                excluded="low",
                search=(SearchRange(0.1, 1.0, 0.2, "log", f"{_MARIN}: 0.2 to 1; shorter in {_WSD}", 10),),
                help="share of the steps after the warmup in which the rate falls",
            ),
            OptionInfo(
                "cooldown_shape",
                "one_minus_sqrt",
                "text",
                choices=("one_minus_sqrt", "linear"),
                search=(SearchChoices(("one_minus_sqrt", "linear"), "one_minus_sqrt", f"{_WSD}: 1 - sqrt is better"),),
                help="shape of the fall",
            ),
            _floor(),
        ),
        source=f"Haegele et al. 2024, {_WSD}",
        advice="The long flat part is the same for any length, so a longer training can continue from it.",
    ),
    ScheduleInfo(
        name="inverse_sqrt",
        shape="opttune.build.shapes.inverse_sqrt",
        summary="one over the root of the steps, independent of the length",
        options=(
            WARMUP_FRACTION,
            OptionInfo(
                "timescale_fraction",
                0.1,
                low=0,
                excluded="low",
                search=(SearchRange(0.01, 0.5, 0.1, "log", "the Transformer's is its warmup: 0.04 of 100,000 steps"),),
                help="share of the steps after the warmup at which the rate has fallen to 1 / sqrt(2)",
            ),
        ),
        source="Vaswani et al. 2017, arxiv.org/abs/1706.03762",
    ),
    ScheduleInfo(
        name="polynomial",
        shape="opttune.build.shapes.polynomial",
        summary="a power of the remaining share, down to the floor",
        options=(
            WARMUP_FRACTION,
            OptionInfo(
                "power",
                2.0,
                low=0,
                excluded="low",
                search=(SearchRange(0.5, 3.0, 2.0, "log", "0.9 in arxiv.org/abs/1606.00915, 2 with LARS"),),
                help="exponent; 1 is linear",
            ),
            _floor(),
        ),
        source="Chen et al. 2016, arxiv.org/abs/1606.00915",
    ),
    ScheduleInfo(
        name="step",
        shape="opttune.build.shapes.step",
        summary="equally spaced drops",
        options=(
            WARMUP_FRACTION,
            OptionInfo(
                "drop_count",
                2,
                "int",
                low=1,
                search=(SearchChoices((1, 2, 3), 2, "torchvision's ImageNet recipe: 2"),),
                help="drops in all",
            ),
            _DECAY_FACTOR,
        ),
        source="torch.optim.lr_scheduler.StepLR",
    ),
    ScheduleInfo(
        name="multistep",
        shape="opttune.build.shapes.multistep",
        summary="drops at milestones",
        options=(
            WARMUP_FRACTION,
            OptionInfo(
                "milestones",
                (0.3, 0.6, 0.9),
                "floats",
                low=0,
                high=1,
                excluded="both",
                any_length=True,
                help="shares of the steps after the warmup at which the rate drops",
            ),
            _DECAY_FACTOR,
        ),
        source="torch.optim.lr_scheduler.MultiStepLR; milestones as in arxiv.org/abs/1605.07146",
    ),
    ScheduleInfo(
        name="exponential",
        shape="opttune.build.shapes.exponential",
        summary="the same factor at every step, down to the floor",
        options=(
            WARMUP_FRACTION,
            OptionInfo(
                "final_lr_fraction",
                0.01,
                low=0,
                high=1,
                excluded="low",
                search=(SearchRange(1e-3, 0.3, 0.01, "log", "torch's ExponentialLR by its end, not its step", 25),),
                help="share of lr left at the end",
            ),
        ),
        source="torch.optim.lr_scheduler.ExponentialLR",
    ),
    ScheduleInfo(
        name="one_cycle",
        shape="opttune.build.shapes.one_cycle",
        summary="half a cosine up to the peak, then half a cosine down to almost zero; needs no warmup",
        options=(
            OptionInfo(
                "rise_fraction",
                0.3,
                low=0,
                high=1,
                excluded="both",
                search=(SearchRange(0.1, 0.45, 0.3, "linear", "fastai: 0.25 to 0.3; arxiv.org/abs/1708.07120", 10),),
                help="share of the steps spent rising",
                rises="shape",
            ),
            OptionInfo("start_lr_fraction", 0.04, low=0, high=1, help="share of lr at the first step"),
            OptionInfo("final_lr_fraction", 4e-6, low=0, high=1, help="share of lr left at the end"),
        ),
        source="Smith and Topin 2017, arxiv.org/abs/1708.07120",
        advice="Momentum stays constant; the paper lowers it while the rate rises.",
    ),
    ScheduleInfo(
        name="cyclical",
        shape="opttune.build.shapes.cyclical",
        summary="triangles between a low rate and the peak; needs no warmup",
        options=(
            _CYCLES,
            OptionInfo(
                "low_lr_fraction",
                0.1,
                low=0,
                high=1,
                search=(SearchRange(0.05, 0.35, 0.1, "log", "arxiv.org/abs/1506.01186: a third or a quarter"),),
                help="share of lr at the foot of each triangle",
            ),
            OptionInfo(
                "cycle_decay",
                1.0,
                low=0,
                high=1,
                excluded="low",
                search=(SearchChoices((0.5, 1.0), 1.0, "arxiv.org/abs/1506.01186: triangular and triangular2"),),
                help="factor of the height from one triangle to the next",
            ),
        ),
        source="Smith 2015, arxiv.org/abs/1506.01186",
    ),
    ScheduleInfo(
        name="cosine_restarts",
        shape="opttune.build.shapes.cosine_restarts",
        summary="a cosine down to the floor, again and again (SGDR)",
        options=(
            WARMUP_FRACTION,
            _CYCLES,
            OptionInfo(
                "cycle_growth",
                1.0,
                low=1,
                search=(SearchChoices((1.0, 2.0), 1.0, "arxiv.org/abs/1608.03983: 1 and 2"),),
                help="length of each cycle divided by the length of the previous one",
            ),
            _floor(),
        ),
        source="Loshchilov and Hutter 2016, arxiv.org/abs/1608.03983",
    ),
    ScheduleInfo(
        name="plateau",
        shape="opttune.build.plateau.reduce_on_plateau",
        summary="a drop whenever the monitored metric no longer improves (torch's ReduceLROnPlateau)",
        options=(
            WARMUP_FRACTION,
            _DECAY_FACTOR,
            OptionInfo(
                "patience_checks",
                5,
                "int",
                low=0,
                search=(SearchChoices((2, 5, 10), 5, "torch: 10 epochs; fewer for short trainings"),),
                help="validations without improvement before a drop",
            ),
            OptionInfo("improvement_fraction", 1e-4, low=0, help="relative improvement that counts"),
            OptionInfo("final_lr_fraction", 0.0, low=0, high=1, help="lowest rate, as a share of lr"),
        ),
        source="torch.optim.lr_scheduler.ReduceLROnPlateau",
        follows_monitor=True,
        advice="It reads the metric after each validation, also within an epoch. The rate drops only there, and the "
        "patience counts validations, not epochs. Validations in the warmup do not count.",
    ),
)

"""Optimizers that do without a schedule (schedule-free) or without a learning rate (Prodigy)."""

from opttune.catalog import options as o
from opttune.catalog.info import OptimizerInfo, OptionInfo
from opttune.catalog.ranges import SearchChoices, SearchRange

_CODE = "github.com/facebookresearch/schedule_free"
_AVERAGED = "Validation and checkpoints use averaged weights; opttune switches to them for both."

FREE_OPTIMIZERS = (
    OptimizerInfo(
        name="schedule_free_adamw",
        class_path="pytorch_optimizer.ScheduleFreeAdamW",
        summary="AdamW that averages its weights instead of lowering the rate; needs no schedule and no length",
        options=(
            o.lr(2.5e-3, 1e-4, 1e-1, 2.5e-3, f"{_CODE}: 1 to 10 times AdamW's; {o.SHORT_RUNS}", short_centre=1e-2),
            o.betas(
                0.9,
                0.999,
                excluded_low=True,
                search=(
                    SearchRange(0.8, 0.98, 0.9, "log_of_one_minus", f"{_CODE}: 0.9, 0.95, 0.98", from_budget=10),
                    o.adam_beta_ranges(0.9, 0.999)[1],
                ),
            ),
            o.eps(1e-8),
            # added to the scaled gradient at the weights in training, as in the authors' code
            o.decoupled_decay(0.0),
        ),
        source="Defazio et al. 2024, arxiv.org/abs/2405.15682",
        code=_CODE,
        state_bytes=8.0,
        needs_eval_mode_switch=True,
        own_schedule=True,
        advice=_AVERAGED,
    ),
    OptimizerInfo(
        name="schedule_free_sgd",
        class_path="pytorch_optimizer.ScheduleFreeSGD",
        summary="momentum SGD that averages its weights instead of lowering the rate",
        options=(
            o.lr(1.0, 1e-3, 30.0, 1.0, f"{_CODE}: 10 to 50 times SGD's with momentum"),
            o.momentum(0.9, excluded_low=True),
            o.coupled_decay(0.0),
        ),
        source="Defazio et al. 2024, arxiv.org/abs/2405.15682",
        code=_CODE,
        state_bytes=4.0,
        needs_eval_mode_switch=True,
        own_schedule=True,
        advice=_AVERAGED,
    ),
    OptimizerInfo(
        name="prodigy",
        class_path="pytorch_optimizer.Prodigy",
        summary="AdamW that finds its own learning rate; only d_coef is left to tune",
        options=(
            o.fixed_lr(1.0, "factor of the rate that Prodigy finds; keep it at 1 and set d_coef"),
            OptionInfo(
                "d_coef",
                1.0,
                low=0,
                excluded="low",
                search=(SearchRange(0.1, 10.0, 1.0, "log", "Prodigy README: 0.1 and 0.5 to 2 and 10", from_budget=0),),
                help="factor of the estimated distance",
            ),
            OptionInfo(
                "d0",
                1e-6,
                low=0,
                excluded="low",
                search=(SearchChoices((1e-6, 1e-5, 1e-4), 1e-6, "Prodigy README; 1e-4 moves far sooner, measured"),),
                help="first estimate of the distance",
            ),
            o.betas(0.9, 0.999),
            o.eps(1e-8, search=False),
            o.decoupled_decay(0.0),
            o.switch("bias_correction", False, "Adam's correction of the averages' bias"),
            o.switch("safeguard_warmup", False, "keep the warmup out of the estimate; set it with a warmup"),
        ),
        source="Mishchenko and Defazio 2023, arxiv.org/abs/2306.06101",
        code="github.com/konstmish/prodigy",
        fixed={"weight_decouple": True},
        state_bytes=16.0,
        takes_complex=False,
        one_lr=True,
        fixed_lr=True,
        advice="Its authors recommend cosine without restarts, or a constant schedule.",
    ),
)

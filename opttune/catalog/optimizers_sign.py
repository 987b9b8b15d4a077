"""Optimizers that bound the step of each weight: Lion by the sign, Sophia by the curvature."""

from opttune.catalog import options as o
from opttune.catalog.info import OptimizerInfo, OptionInfo
from opttune.catalog.ranges import SearchChoices, SearchRange

LION_LR = o.lr(
    1e-4,
    1e-6,
    3e-2,
    1e-4,
    f"Lion section 5: 3 to 10 times below AdamW's; {o.MARIN}: 5e-4 to 8e-3; two tasks of 300 steps, measured: 3e-3",
    short_centre=3e-3,
)
LION_BETAS = o.betas(
    0.9,
    0.99,
    search=(
        SearchRange(0.8, 0.98, 0.9, "log_of_one_minus", f"{o.MARIN}: 0.8 to 0.98", from_budget=10),
        SearchRange(0.9, 0.999, 0.99, "log_of_one_minus", f"{o.MARIN}: 0.9 to 0.98; Lion section 5: 0.98 and 0.99"),
    ),
)

SIGN_OPTIMIZERS = (
    OptimizerInfo(
        name="lion",
        class_path="pytorch_optimizer.Lion",
        summary="sign of a mix of momentum and gradient; lr 3 to 10 times below AdamW's, weight decay 3 to 10 above",
        options=(LION_LR, LION_BETAS, o.decoupled_decay(0.1, high=3.0, source=f"{o.MARIN}: 0 to 1, best at 0.7")),
        source="Chen et al. 2023, arxiv.org/abs/2302.06675",
        code="github.com/google/automl/tree/master/lion",
        fixed={"weight_decouple": True},
        state_bytes=4.0,
        advice="Its authors recommend batches of 64 or more.",
    ),
    OptimizerInfo(
        name="sophia",
        class_path="opttune.build.sophia.SophiaH",
        summary="momentum over an estimate of the Hessian's diagonal (Hutchinson's), each weight's step bounded by lr",
        options=(
            o.lr(
                6e-4,
                1e-5,
                3e-2,
                6e-4,
                f"Sophia README: AdamW's times 0.8, 3 to 5 times Lion's; {o.MARIN}: 2e-3 to 3.2e-2",
                short_centre=3e-3,
            ),
            o.betas(
                0.96,
                0.99,
                search=(
                    SearchRange(0.9, 0.98, 0.96, "log_of_one_minus", f"paper 0.96, {o.MARIN}: 0.95", from_budget=10),
                    SearchRange(0.9, 0.995, 0.99, "log_of_one_minus", f"{o.MARIN}: 0.9 to 0.995"),
                ),
            ),
            OptionInfo(
                "gamma",
                0.01,
                low=0,
                excluded="low",
                search=(SearchRange(5e-3, 0.1, 0.01, "log", f"{o.MARIN}: 6.25e-3 to 5e-2"),),
                help="scale of the curvature; smaller values bound more steps",
            ),
            OptionInfo(
                "update_period",
                10,
                "int",
                low=1,
                search=(SearchChoices((1, 10), 10, "Sophia's experiments: every 10 steps"),),
                help="steps between estimates of the Hessian",
            ),
            o.eps(1e-12, search=False),
            o.decoupled_decay(0.1, source=f"{o.MARIN}: 0 to 0.3; Sophia README: 0.1 and 0.2"),
        ),
        source="Liu et al. 2023, arxiv.org/abs/2305.14342",
        code="github.com/Liuhong99/Sophia",
        state_bytes=8.0,
        takes_complex=False,
        needs_create_graph=True,
        advice="Every update_period steps it differentiates the gradients. That step costs two to three times as "
        "much, and fused attention must be switched to torch's math kernel. It trains only in one process, and not "
        "in 16-mixed.",
    ),
)

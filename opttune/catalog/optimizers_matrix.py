"""Optimizers that treat a weight as a matrix: Muon, SOAP and both Shampoos."""

from opttune.catalog import options as o
from opttune.catalog.info import MatricesOnly, OptimizerInfo, OptionInfo
from opttune.catalog.ranges import SearchChoices, SearchRange

_MUON_README = "github.com/KellerJordan/Muon"
_MEASURED = "measured, benchmarks/short_muon.py"
_STALE = "1,000 in the class is for long trainings; arxiv.org/abs/2506.03595 on stale ones"

MATRIX_OPTIMIZERS = (
    OptimizerInfo(
        name="muon",
        class_path="opttune.build.muon.Muon",
        base_path="pytorch_optimizer.Muon",
        summary="orthogonalized momentum for the hidden matrices and AdamW for the rest, in one optimizer",
        options=(
            o.lr(
                2e-2,
                1e-3,
                2e-1,
                2e-2,
                f"{_MUON_README}: 0.02; {o.MARIN}: 8e-3 to 0.128; short runs: {_MEASURED}",
                short_centre=4e-2,
            ),
            o.momentum(
                0.95,
                excluded_low=True,
                source=f"{_MUON_README}: 0.95; {o.MARIN}: 0.8 to 0.98; short runs: {_MEASURED}",
                short_centre=0.9,
            ),
            OptionInfo(
                "adamw_lr_ratio",
                0.2,
                low=0,
                excluded="low",
                search=(SearchRange(0.01, 1.0, 0.2, "log", f"{o.MARIN}: 0.1, 0.2, 0.3; {_MUON_README}: 0.015"),),
                help="AdamW's learning rate as a share of lr",
            ),
            o.betas(
                0.9,
                0.95,
                name="adamw_betas",
                search=(None, SearchRange(0.8, 0.999, 0.95, "log_of_one_minus", f"{o.MARIN}: 0.95; AdamW: 0.999")),
            ),
            OptionInfo("adamw_eps", 1e-10, low=0, help="added to the denominator of AdamW"),
            o.decoupled_decay(1e-2, source=f"{_MUON_README}: 0.01; {o.MARIN}: 0 to 0.2"),
            o.switch("nesterov", True, "Nesterov's momentum"),
            OptionInfo("ns_steps", 5, "int", low=1, help="steps of the Newton-Schulz iteration"),
            o.switch(
                "use_adjusted_lr", False, "scale updates like AdamW's, so that lr is in AdamW's range (Moonlight)"
            ),
        ),
        source="Jordan 2024, kellerjordan.github.io/posts/muon",
        code=_MUON_README,
        fixed={"weight_decouple": True},
        lr_ratios={"adamw_lr": "adamw_lr_ratio"},
        matrices_only=MatricesOnly(flag="use_muon", rest_lr="adamw_lr"),
        state_bytes=4.21,
        takes_complex=False,
        advice="Embeddings, the output layer, norms and biases go to AdamW; a rule in groups with `as_matrix` "
        "overrides this.",
    ),
    OptimizerInfo(
        name="soap",
        class_path="pytorch_optimizer.SOAP",
        summary="Adam in the eigenbasis of Shampoo's preconditioner",
        options=(
            o.lr(
                3e-3,
                1e-4,
                1e-1,
                3e-3,
                f"SOAP README: 3e-3; {o.MARIN}: 4e-3 to 1.6e-2; {o.SHORT_RUNS}",
                short_centre=1e-2,
            ),
            o.betas(
                0.95,
                0.95,
                search=(
                    SearchRange(0.8, 0.98, 0.95, "log_of_one_minus", f"{o.MARIN}: 0.8 to 0.95", from_budget=10),
                    SearchRange(0.9, 0.99, 0.95, "log_of_one_minus", f"{o.MARIN}: 0.9 to 0.99"),
                ),
            ),
            o.eps(1e-8),
            o.decoupled_decay(1e-2, source=f"SOAP README: 0.01; {o.MARIN}: 0 to 0.8"),
            OptionInfo(
                "precondition_frequency",
                10,
                "int",
                low=1,
                search=(SearchChoices((1, 5, 10), 10, f"{o.MARIN}: 1, 5, 10"),),
                help="steps between new eigenbases",
            ),
            OptionInfo("max_precondition_dim", 10_000, "int", low=1, help="larger dimensions are not preconditioned"),
        ),
        source="Vyas et al. 2024, arxiv.org/abs/2409.11321",
        code="github.com/nikhilvyas/SOAP",
        state_bytes=35.06,
        takes_complex=False,
        advice="Its first step only sets up the eigenbasis.",
    ),
    OptimizerInfo(
        name="shampoo",
        class_path="pytorch_optimizer.Shampoo",
        summary="gradients multiplied by inverse roots of their own covariance, one for each dimension",
        options=(
            o.lr(1e-1, 1e-3, 1.0, 1e-1, "measured: the steps start at the size of an orthogonal matrix and shrink"),
            o.momentum(0.0),
            o.decoupled_decay(0.0),
            OptionInfo("matrix_eps", 1e-6, low=0, excluded="low", help="added to the covariances' diagonal"),
        ),
        source="Gupta et al. 2018, arxiv.org/abs/1802.09568",
        code="github.com/moskomule/shampoo.pytorch",
        fixed={"weight_decouple": True},
        state_bytes=71.49,
        takes_complex=False,
        advice="It computes inverse roots at every step, which costs many times AdamW's step for wide layers.",
    ),
    OptimizerInfo(
        name="scalable_shampoo",
        class_path="pytorch_optimizer.ScalableShampoo",
        summary="Shampoo in blocks, with steps as long as momentum SGD's (grafting)",
        options=(
            o.lr(3e-2, 1e-4, 1.0, 3e-2, "grafting takes the length of SGD's steps, arxiv.org/abs/2002.11803"),
            o.betas(
                0.9,
                0.999,
                search=(
                    SearchRange(0.85, 0.99, 0.9, "log_of_one_minus", f"{o.ALGOPERF}: 0.85 to 0.99", from_budget=10),
                    None,
                ),
            ),
            o.decoupled_decay(0.0, high=1e-1, centre=1e-3),
            OptionInfo("start_preconditioning_step", 25, "int", low=1, help="steps of plain momentum at the start"),
            OptionInfo(
                "preconditioning_compute_steps",
                10,
                "int",
                low=1,
                search=(SearchChoices((1, 10, 100), 10, _STALE),),
                help="steps between new inverse roots",
            ),
            OptionInfo("block_size", 512, "int", low=2, help="largest side of a block"),
        ),
        source="Anil et al. 2020, arxiv.org/abs/2002.09018",
        code="github.com/google-research/google-research, scalable_shampoo",
        fixed={"decoupled_weight_decay": True},
        state_bytes=35.06,
        takes_complex=False,
        weights_only_unsafe=True,
        advice="Each process keeps the whole state. To spread it over processes, register DistributedShampoo of "
        "github.com/facebookresearch/optimizers with register_optimizer.",
    ),
)

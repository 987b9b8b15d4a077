"""Optimizers that ship with torch."""

from opttune.catalog import options as o
from opttune.catalog.info import OptimizerInfo, OptionInfo
from opttune.catalog.ranges import SearchRange

_SGD_LR = f"{o.ALGOPERF}: 2e-2 to 5 with momentum; playbook and ImageNet recipes 1e-2 to 0.1"

TORCH_OPTIMIZERS = (
    OptimizerInfo(
        name="sgd",
        class_path="torch.optim.SGD",
        summary="stochastic gradient descent, with momentum or Nesterov's momentum if asked",
        options=(
            o.lr(1e-2, 1e-4, 5.0, 1e-1, _SGD_LR),
            o.momentum(0.0),
            o.switch("nesterov", False, "Nesterov's momentum", needs="momentum"),
            OptionInfo("dampening", 0.0, low=0, high=1, help="share of the gradient kept out of the momentum"),
            o.coupled_decay(0.0),
        ),
        source="Robbins and Monro 1951, doi.org/10.1214/aoms/1177729586",
        state_bytes=0.0,
    ),
    OptimizerInfo(
        name="momentum",
        class_path="torch.optim.SGD",
        summary="SGD with heavy-ball momentum",
        options=(o.lr(1e-2, 1e-4, 1.0, 3e-2, _SGD_LR), o.momentum(0.9), o.coupled_decay(1e-4)),
        source="Polyak 1964, doi.org/10.1016/0041-5553(64)90137-5",
        state_bytes=4.0,
    ),
    OptimizerInfo(
        name="nesterov",
        class_path="torch.optim.SGD",
        summary="SGD with Nesterov's momentum",
        options=(
            o.lr(1e-2, 1e-4, 1.0, 3e-2, _SGD_LR),
            o.momentum(0.9, excluded_low=True),
            o.coupled_decay(1e-4),
        ),
        source="Sutskever et al. 2013, proceedings.mlr.press/v28/sutskever13.html",
        fixed={"nesterov": True},
        state_bytes=4.0,
    ),
    OptimizerInfo(
        name="rmsprop",
        class_path="torch.optim.RMSprop",
        summary="gradients over their running root mean square, with momentum if asked",
        options=(
            o.lr(1e-3, 1e-5, 3e-2, 1e-3, "Keras and rl-baselines3-zoo hyperparams_opt.py", short_centre=3e-3),
            OptionInfo(
                "alpha",
                0.99,
                low=0,
                high=1,
                excluded="high",
                search=(SearchRange(0.9, 0.999, 0.99, "log_of_one_minus", "lecture: 0.9; torch: 0.99"),),
                help="decay rate of the squared average",
            ),
            o.momentum(0.0),
            o.switch("centered", False, "divide by the variance instead"),
            o.eps(1e-8),
            o.coupled_decay(0.0),
        ),
        source="Tieleman and Hinton 2012, cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf",
        state_bytes=4.0,
        advice="TensorFlow's RMSprop adds eps inside the root and starts at 1: its settings do not carry over.",
    ),
    OptimizerInfo(
        name="adam",
        class_path="torch.optim.Adam",
        summary="Adam; its weight decay is an L2 penalty (AdamW's is decoupled)",
        options=(o.adam_like_lr(1e-3, o.ALGOPERF), o.betas(0.9, 0.999), o.eps(1e-8), o.coupled_decay(0.0)),
        source="Kingma and Ba 2014, arxiv.org/abs/1412.6980",
        state_bytes=8.0,
    ),
    OptimizerInfo(
        name="adamw",
        class_path="torch.optim.AdamW",
        summary="Adam with decoupled weight decay",
        options=(
            o.adam_like_lr(1e-3, f"{o.ALGOPERF}: 1e-4 to 1e-2"),
            o.betas(0.9, 0.999),
            o.eps(1e-8),
            o.decoupled_decay(1e-2),
        ),
        source="Loshchilov and Hutter 2017, arxiv.org/abs/1711.05101",
        state_bytes=8.0,
    ),
    OptimizerInfo(
        name="nadamw",
        class_path="torch.optim.NAdam",
        summary="AdamW with Nesterov's momentum",
        options=(
            o.adam_like_lr(2e-3, f"{o.ALGOPERF}: 1e-4 to 1e-2"),
            o.betas(0.9, 0.999),
            o.eps(1e-8),
            o.decoupled_decay(1e-2),
        ),
        source="Dozat 2016, openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ",
        fixed={"decoupled_weight_decay": True},
        state_bytes=8.0,
    ),
    OptimizerInfo(
        name="radam",
        class_path="torch.optim.RAdam",
        summary="Adam that warms itself up: rectified while its second moment is uncertain",
        options=(
            o.adam_like_lr(1e-3, f"{o.ALGOPERF}: AdamW's, 1e-4 to 1e-2"),
            o.betas(0.9, 0.999),
            o.eps(1e-8),
            o.decoupled_decay(0.0),
        ),
        source="Liu et al. 2019, arxiv.org/abs/1908.03265",
        code="github.com/LiyuanLucasLiu/RAdam",
        fixed={"decoupled_weight_decay": True},
        state_bytes=8.0,
        advice="Its first five steps are SGD steps at the same rate, which hardly move: give it no warmup.",
    ),
    OptimizerInfo(
        name="adafactor",
        class_path="torch.optim.Adafactor",
        summary="Adam without momentum, its second moment kept as rows and columns: almost no state",
        options=(
            o.lr(1e-2, 1e-4, 0.3, 1e-2, f"the authors' largest relative step 1e-2, and {o.ALGOPERF}: 1e-4 to 1e-2"),
            OptionInfo(
                "beta2_decay",
                -0.8,
                high=0,
                excluded="high",
                search=(SearchRange(-1.0, -0.5, -0.8, "linear", "the authors' -0.8, and either side of it"),),
                help="exponent c of beta2 = 1 - step^c",
            ),
            OptionInfo("d", 1.0, low=0, excluded="low", help="largest root mean square of an update"),
            o.decoupled_decay(0.0, source=f"{o.ALGOPERF}: 1e-3 to 1"),
        ),
        source="Shazeer and Stern 2018, arxiv.org/abs/1804.04235",
        state_bytes=0.13,
        own_clipping=True,
        advice="lr is relative to the size of each weight tensor, and never above 1 over the root of the step.",
    ),
)

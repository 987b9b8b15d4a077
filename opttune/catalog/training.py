"""The other fields of a recipe: Trainer settings and parameter groups."""

from opttune.catalog.info import OptionInfo

TRAINING_OPTIONS = (
    OptionInfo(
        "gradient_clip_norm",
        None,
        low=0,
        excluded="low",
        optional=True,
        help="largest norm of all gradients together; null does not clip",
    ),
    OptionInfo("accumulate_grad_batches", 1, "int", low=1, help="batches per optimizer step"),
    OptionInfo("precision", None, "text", optional=True, help="Lightning's precision; null leaves the Trainer's"),
)

GROUP_OPTIONS = (
    OptionInfo("no_decay_norm_bias", True, "bool", help="whether norms and biases get no weight decay"),
    OptionInfo("no_decay_embeddings", False, "bool", help="whether embeddings get no weight decay either"),
    OptionInfo(
        "layer_decay",
        None,
        low=0,
        high=1,
        excluded="low",
        optional=True,
        help="learning rate of each layer as a share of the rate of the layer above",
    ),
    OptionInfo(
        "lora_plus_ratio",
        None,
        low=0,
        excluded="low",
        optional=True,
        help="learning rate of LoRA's B matrices as a multiple of the other rates",
    ),
)
RULE_OPTIONS = (
    OptionInfo("lr_ratio", 1.0, low=0, help="factor of the learning rate of the matching parameters"),
    OptionInfo("weight_decay_ratio", 1.0, low=0, help="factor of their weight decay"),
    OptionInfo("as_matrix", None, "bool", optional=True, help="whether an optimizer for matrices trains them"),
)

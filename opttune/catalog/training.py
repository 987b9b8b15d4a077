"""The fields of a recipe that belong to the Trainer rather than to the optimizer or the schedule."""

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

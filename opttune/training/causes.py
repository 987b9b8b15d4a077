"""Known causes of errors of torch or Lightning in a first training."""

_NO_DATA = "`train_dataloader` must be"
_CAUSES = (
    ("does not require grad", "the loss depends on no trainable parameter: training_step must return it undetached"),
    ("on the same device", "the module makes a tensor elsewhere: use register_buffer, or device=self.device"),
    ("mat1 and mat2 shapes", "the data are wider or narrower than the module expects"),
    ("DataLoader worker", "a process of the loader died: num_workers=0 shows why"),
    (
        "No supported gpu backend",
        "the Trainer asks for a GPU that this machine does not have: --trainer accelerator=cpu",
    ),
    (_NO_DATA, "there are no training data: give them (DATA on the command line, data= in Python)"),
    ("default_collate", "the samples cannot be put into one batch: give the loader a collate_fn"),
    ("Float did not match", "the loss expects a tensor of another type: convert it, as with .float() or .long()"),
)


def cause_of(err: BaseException, fails_alike: bool, optimizer: str) -> str:
    """Return the known cause, in a sentence or two.

    Args:
        err: The error.
        fails_alike: Whether the module's own optimizer fails in the same way.
        optimizer: The recipe's.

    Example:
        >>> cause_of(RuntimeError("element 0 of tensors does not require grad"), True, "adamw")[:56]
        'The loss depends on no trainable parameter: training_ste'
    """
    known = [words for pattern, words in _CAUSES if pattern in str(err)]
    where = (
        "It fails with its own optimizer as well: fix it until Trainer.fit trains it."
        if fails_alike
        else f"With its own optimizer it trains: search other optimizers than {optimizer} (--space)."
    )
    causes = [f"{words[0].upper()}{words[1:]}." for words in known]
    # without data no optimizer trains, and there is nothing to fix in the module
    return " ".join(causes if _NO_DATA in str(err) else [*causes, where])

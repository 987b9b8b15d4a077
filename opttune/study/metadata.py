"""`StudyMetadata`: further settings of a search, which only its report or verdict needs."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import optuna

from opttune.storages.records import ORIGIN, OUT_DIR
from opttune.study.config import SearchConfig
from opttune.tracking.address import safe_uri
from opttune.training.inspection import ModelInspection


@dataclass(frozen=True, slots=True)
class StudyMetadata:
    """Settings of the last search of a study, and facts about the model, ready for JSON.

    Attributes:
        model: The command's reference to the model; empty for a search called from Python.
        data: The command's reference to the data.
        project: The project of the search, as text; empty if it had none.
        trainer: Arguments of the Trainer that JSON can store.
        left_out: Names of the arguments that JSON cannot store.
        is_guarded: Whether the guard may stop a training.
        budget: Cost of the search in full trainings.
        tracking_uri: Address of MLflow; empty if it contains a password.
        model_name: The class of the model.
        parameters: Its trainable parameters.
        replaced: The module's own optimizer, in words.
        has_own_optimizer: Whether that optimizer works.
        has_own_groups: Whether that optimizer has several groups, or does not train some parameters.
        groups: Table of the parameter groups of the recipe that the inspection trained, in Markdown.
        pauses: Whether its trials paused at rungs.
        with_baseline: Whether it trained the baseline, or was given its curve; True in studies of earlier versions.
        is_manual: Whether the module optimizes manually.
        batches: Batches of an epoch; None if unknown, as for an IterableDataset, and in studies of earlier versions.
    """

    model: str = ""
    data: str = ""
    project: str = ""
    trainer: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    is_guarded: bool = True
    budget: float = 0.0
    tracking_uri: str = ""
    model_name: str = ""
    parameters: int = 0
    replaced: str = ""
    has_own_optimizer: bool = True
    has_own_groups: bool = False
    groups: str = ""
    pauses: bool = True
    with_baseline: bool = True
    is_manual: bool = False
    batches: int | None = None

    @classmethod
    def of(cls, config: SearchConfig, inspection: ModelInspection, tracking_uri: str) -> "StudyMetadata":
        """Make it from the configuration of a search and the inspection of its model."""
        kept = {name: value for name, value in config.trainer.items() if _is_plain(value)}
        return cls(
            model=config.references.get("model", ""),
            data=config.references.get("data", ""),
            project=config.references.get("project", ""),
            trainer=kept,
            left_out=tuple(name for name in config.trainer if name not in kept),
            is_guarded=config.guard is not None,
            budget=float(config.budget),
            tracking_uri=tracking_uri if safe_uri(tracking_uri) == tracking_uri else "",
            model_name=inspection.model_name,
            parameters=inspection.parameters,
            replaced=inspection.replaced,
            has_own_optimizer=inspection.has_own_optimizer,
            has_own_groups=inspection.has_own_groups,
            groups=inspection.groups,
            pauses=config.pauses,
            with_baseline=config.with_baseline,
            is_manual=inspection.facts.is_manual,
            batches=next((facts.batches for facts in inspection.data if facts.purpose == "training"), None),
        )

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "StudyMetadata":
        """Read back the result of `to_dict`; fields of a later version are ignored."""
        known = {each.name for each in fields(cls)}
        values = {name: value for name, value in stored.items() if name in known}
        return cls(**{**values, "left_out": tuple(values.get("left_out", ()))})

    def keep(self, study: optuna.Study, out_dir: Path) -> None:
        """Store it in the study, with the folder of the search's files."""
        study.set_user_attr(ORIGIN, self.to_dict())
        study.set_user_attr(OUT_DIR, str(out_dir.absolute()))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values for JSON."""
        return {**asdict(self), "trainer": dict(self.trainer), "left_out": list(self.left_out)}


def _is_plain(value: object) -> bool:
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError):
        return False

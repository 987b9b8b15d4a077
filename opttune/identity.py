"""`Identity`: the model and the data of a study, described well enough to detect others in a later search."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isclose
from typing import Any

_SHOWN = 3
_TOLERANCE = 2e-3


@dataclass(frozen=True, slots=True)
class Identity:
    """A model and its data, as plain values for JSON.

    Attributes:
        model: The class; the shape of each parameter; each layer; the saved hyperparameters that are numbers.
        data: For each loader its purpose, the class and length of its dataset, its batch size, and numbers computed
            from some of its samples; None for a value that is unknown or changes between readings.
        weights: Checksum of an instance's weights, from which every training starts; None for a class or a factory.
    """

    model: Mapping[str, str] = field(default_factory=dict)
    data: Sequence[Mapping[str, Any]] = ()
    weights: int | None = None

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Identity":
        """Read back the result of `to_dict`."""
        return cls(stored["model"], stored["data"], stored.get("weights"))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values for JSON."""
        return asdict(self)

    def differences(self, now: "Identity") -> tuple[str, list[str]]:
        """Return the kind of difference, such as `another model`, and its details; empty if there is none.

        Example:
            >>> Identity({"class": "Net", "out.bias": "2"}).differences(Identity({"class": "Net", "out.bias": "3"}))
            ('another model', ['out.bias: 2 in the study, 3 now'])
        """
        for what, found in (
            ("another model", _of_models(self.model, now.model)),
            ("other data", _of_data(self.data, now.data)),
            ("other weights", _of_weights(self.weights, now.weights)),
        ):
            words = list(found)
            if words:
                more = [f"and {len(words) - _SHOWN} more"] if len(words) > _SHOWN else []
                return what, [*words[:_SHOWN], *more]
        return "", []


def _of_models(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for name in dict.fromkeys([*before, *now]):
        if before.get(name) != now.get(name):
            yield _words(name, before.get(name, "none"), now.get(name, "none"))


def _of_data(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if len(before) != len(now):
        yield _words("loaders", len(before), len(now))
        return
    for then, one in zip(before, now, strict=True):
        for name in ("dataset", "samples", "batch_size"):
            if None not in (then[name], one[name]) and then[name] != one[name]:
                yield _words(f"{then['purpose']} {name}", then[name], one[name])
        if then["contents"] and one["contents"] and _are_others(then["contents"], one["contents"]):
            yield f"the {then['purpose']} samples hold other values"


def _of_weights(before: int | None, now: int | None) -> Iterator[str]:
    if None not in (before, now) and before != now:
        yield (
            "every training starts from the weights of the given instance, and these differ: it was trained since, or "
            "made anew. Make it from the same seed, or give its class"
        )


def _are_others(before: Sequence[Sequence[float]], now: Sequence[Sequence[float]]) -> bool:
    """Return whether almost no sample is the same, because rare random changes of some must not count."""
    same = sum(_is_same(*pair) for pair in zip(before, now, strict=False))
    return same <= min(len(before), len(now)) // 4


def _is_same(before: Sequence[float], now: Sequence[float]) -> bool:
    # another machine may round or decode a little differently
    return len(before) == len(now) and all(
        isclose(*pair, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE * max(before[at - at % 2], now[at - at % 2]))
        for at, pair in enumerate(zip(before, now, strict=True))
    )


def _words(name: str, before: object, now: object) -> str:
    return f"{name}: {before} in the study, {now} now"

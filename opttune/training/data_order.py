"""The position of a training in its data: a training resumed within an epoch continues with the remaining batches.

Lightning restarts a loader from its first batch. A DataLoader is therefore replaced with a copy that keeps the random
state of its epoch's start. It skips the batches already seen by drawing only their indices. The order is then exact,
and with `num_workers=0` so are the batches. The batches of a stream, and of a subclass with a custom iteration, are
drawn and discarded. Another kind of loader stays unchanged and starts from its first batch, as always with Lightning.

torchdata's StatefulDataLoader is not a substitute (tried with torchdata 0.11): an existing loader would have to be
built again, `shuffle` gives another order, and a custom sampler with a global generator does not resume exactly.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import wraps
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from opttune.trainer.hooks import ReplacedHook
from opttune.training.loaders import map_loaders
from opttune.training.python_state import read_attributes, restore_attributes
from opttune.training.random_state import kept_random_state, read_random_state, set_random_state
from opttune.training.stream_buffers import containers_of, contents_of, from_bytes, put_contents, to_bytes

_HOOK = "train_dataloader"


class DataOrder:
    """Follows the train loaders of one fit.

    Args:
        loads_in_process: Whether the loaders use no worker processes.
    """

    def __init__(self, loads_in_process: bool = False) -> None:
        self._loads_in_process = loads_in_process
        self._places: list[_Place] = []
        self._resumed: list[dict[str, Any]] = []
        self._replaced: ReplacedHook | None = None

    def watch(self, model: Any, data: dict[str, Any]) -> dict[str, Any]:
        """Follow the train loaders, given as arguments or by a hook.

        Args:
            model: The LightningModule.
            data: The result of `Workload.make_data`.

        Returns:
            The keyword arguments for `Trainer.fit`.
        """
        if "train_dataloaders" in data:
            return {**data, "train_dataloaders": map_loaders(self._followed, data["train_dataloaders"])}
        source = data.get("datamodule", model)
        own = getattr(source, _HOOK)

        # Lightning looks through `wraps` to see whether the user has defined the hook
        @wraps(own)
        def train_dataloader() -> Any:
            self._places.clear()
            return map_loaders(self._followed, own())

        self._replaced = ReplacedHook(source, _HOOK, train_dataloader)
        return data

    def release(self) -> None:
        """Give the module or data module its own hook back."""
        if self._replaced is not None:
            self._replaced.restore()
            self._replaced = None

    def state(self, is_mid_epoch: bool) -> list[dict[str, Any]]:
        """Return the position of each loader, as plain values and tensors."""
        return [place.state(is_mid_epoch) for place in self._places]

    def resume(self, states: list[dict[str, Any]]) -> None:
        """Make every iteration that starts before `settle` continue from these positions."""
        self._resumed = states
        for number, place in enumerate(self._places):
            place.resumed = self._resumed_at(number)

    def set_generators(self) -> None:
        """Restore the states of the loaders' own generators."""
        for place, state in zip(self._places, self._resumed, strict=False):
            _set_states(place.generators, state["generators"])

    def settle(self) -> None:
        """Let later iterations start from their first batch, because the resumed one has started."""
        self.resume([])

    def _resumed_at(self, number: int) -> dict[str, Any] | None:
        return self._resumed[number] if number < len(self._resumed) else None

    def _followed(self, given: Any) -> Any:
        if not isinstance(given, DataLoader):
            return given
        loader: Any = copy(given)
        if self._loads_in_process:
            loader.num_workers, loader.timeout, loader.prefetch_factor = 0, 0, None
        place = _Place(loader)
        # replace the class, not the loader: if Lightning needs another sampler, for several devices or for
        # overfit_batches, it makes another loader of the same class
        followed = _FollowedLoader if _draws_indices(given) else _SkippingLoader
        loader.__class__ = type("_Followed", (followed, type(given)), {"place": place})
        loader.place.resumed = self._resumed_at(len(self._places))
        self._places.append(loader.place)
        return loader


class _Place:
    """The position of one loader in its epoch.

    Attributes:
        batches: Number of batches that its iteration has returned.
        start: The random states at the start of this iteration.
        resumed: The state of the paused training; None if there is none.
        generators: The loader's own random generators.
        samplers: Its samplers, whose attributes may change during the training.
        samplers_at_start: These attributes at the start of the iteration.
        has_ended: Whether this iteration has returned its last batch and was asked for another. A sampler may draw
            random numbers then, so an ended iteration is not drawn again.
        is_ahead: Whether Lightning draws a batch before the step of the previous one, as it does for an unknown length.
        before_last: The random states before the last draw, if it is ahead.
        containers: The containers from which a stream draws and which the training may fill.
        held_at_start: Their contents at the start of the iteration.
    """

    def __init__(self, loader: Any) -> None:
        self.batches = 0
        self.has_ended = False
        self.is_ahead = False
        self.before_last: dict[str, Any] | None = None
        self.start: dict[str, Any] | None = None
        self.resumed: dict[str, Any] | None = None
        self.generators = generators_of(loader)
        self.dataset = loader.dataset
        samplers = [getattr(loader, "sampler", None), batches := getattr(loader, "batch_sampler", None)]
        found = {id(one): one for one in (*samplers, getattr(batches, "sampler", None)) if hasattr(one, "__dict__")}
        self.samplers = list(found.values())
        self.samplers_at_start: torch.Tensor | None = None
        self.containers = containers_of(self.dataset)
        self.held_at_start: list[Any] | None = None

    def state(self, is_mid_epoch: bool) -> dict[str, Any]:
        generators = _states(self.generators)
        if not is_mid_epoch:
            now = read_attributes(self.samplers, (self.dataset, *self.generators))
            return {"generators": generators, "start": None, "batches": 0, "before_last": None, "samplers": now}
        return {
            "generators": generators, "start": self.start, "batches": self.batches - self.is_ahead,
            "has_ended": self.has_ended, "before_last": self.before_last, "samplers": self.samplers_at_start,
            "stream": to_bytes(self.held_at_start),
        }  # fmt: skip

    def begin(self) -> None:
        """Restore the samplers to the start of the resumed iteration, and note their state."""
        if self.resumed and (stored := self.resumed.get("samplers")) is not None:
            restore_attributes(self.samplers, stored)
        self.samplers_at_start = read_attributes(self.samplers, (self.dataset, *self.generators))
        stored = self.resumed.get("stream") if self.resumed else None
        self.held_at_start = contents_of(self.containers) if stored is None else from_bytes(stored)
        self.has_ended = bool(self.resumed and self.resumed.get("has_ended"))

    @contextmanager
    def as_at_start(self) -> Iterator[None]:
        """Let the stream draw from its contents at the start of the iteration."""
        now = contents_of(self.containers)
        put_contents(self.containers, self.held_at_start or now)
        try:
            yield
        finally:
            put_contents(self.containers, now)

    def indices(self, sampler: Iterable[Any]) -> Iterator[Any]:
        """Start an iteration over a sampler, or continue the paused one."""
        self.begin()
        self.start = self.resumed["start"] if self.resumed else None
        self.batches = self.resumed["batches"] if self.resumed else 0
        own = _states(self.generators)
        if self.start is None:
            self.start = {"global": read_random_state(), "generators": own}
            return iter(sampler)
        if self.has_ended:
            return iter(())
        with kept_random_state():
            set_random_state(self.start["global"])
            _set_states(self.generators, self.start["generators"])
            remaining = iter(sampler)
            for _ in range(self.batches):
                next(remaining, None)
        _set_states(self.generators, own)
        return remaining


class _Indices:
    """A sampler whose iteration starts at a position, which is read with the first index."""

    def __init__(self, sampler: Any, place: _Place) -> None:
        self._sampler, self._place = sampler, place

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[Any]:
        yield from self._place.indices(self._sampler)
        # a loader that is shorter than another starts again in the same epoch
        self._place.resumed = None


def _draws_indices(loader: Any) -> bool:
    """Return whether a loader iterates over the indices of a sampler, as DataLoader does."""
    kind: Any = type(loader)
    own = (kind.__iter__, kind._index_sampler) == (DataLoader.__iter__, DataLoader._index_sampler)
    return own and not isinstance(loader.dataset, IterableDataset)


class _SkippingLoader(DataLoader[Any]):
    """A DataLoader that draws the batches already seen again, and discards them."""

    place: _Place | None = None

    def __iter__(self) -> Any:
        return super().__iter__() if self.place is None else self._followed(self.place)

    def _followed(self, place: _Place) -> Iterator[Any]:
        place.begin()
        resumed = place.resumed or {}
        start, seen = resumed.get("start"), resumed.get("batches", 0)
        own = _states(place.generators)
        place.start = start or {"global": read_random_state(), "generators": own}
        place.batches, place.is_ahead = seen, _length_of(self) is None
        if place.has_ended:
            return
        if start is None:
            batches = super().__iter__()
        else:
            with kept_random_state(), place.as_at_start():
                set_random_state(start["global"])
                _set_states(place.generators, start["generators"])
                batches = super().__iter__()
                for _ in range(seen):
                    next(batches, None)
                ahead = []
                if (before_last := resumed.get("before_last")) is not None:
                    # it was drawn before the step of the previous batch
                    set_random_state(before_last)
                    place.before_last = before_last
                    ahead = [batch for batch in (next(batches, None),) if batch is not None]
            _set_states(place.generators, own)
            for batch in ahead:
                place.batches += 1
                yield batch
        while True:
            if place.is_ahead:
                place.before_last = read_random_state()
            try:
                batch = next(batches)
            except StopIteration:
                # a loader that is shorter than another starts again in the same epoch
                place.has_ended, place.resumed = True, None
                return
            place.batches += 1
            yield batch


def _length_of(loader: Any) -> int | None:
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return None


class _FollowedLoader(DataLoader[Any]):
    """A DataLoader that keeps track of its place."""

    place: _Place | None = None

    @property
    def _index_sampler(self) -> Any:
        sampler = super()._index_sampler
        return sampler if self.place is None else _Indices(sampler, self.place)

    def __iter__(self) -> Any:
        batches = super().__iter__()
        return batches if self.place is None else _counted(batches, self.place)


def generators_of(loader: Any) -> list[torch.Generator]:
    """Return the random generators of a loader and its samplers."""
    sampler, batches = getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None)
    owners = [loader, sampler, batches, getattr(batches, "sampler", None)]
    found = {id(g): g for g in (getattr(owner, "generator", None) for owner in owners)}
    return [g for g in found.values() if isinstance(g, torch.Generator)]


def _counted(batches: Iterator[Any], place: _Place) -> Iterator[Any]:
    for batch in batches:
        place.batches += 1
        yield batch
    # not where the indices end: worker processes draw them ahead of the batches
    place.has_ended = True


def _states(generators: list[torch.Generator]) -> list[torch.Tensor]:
    return [generator.get_state() for generator in generators]


def _set_states(generators: list[torch.Generator], states: list[torch.Tensor]) -> None:
    for generator, state in zip(generators, states, strict=True):
        generator.set_state(state)

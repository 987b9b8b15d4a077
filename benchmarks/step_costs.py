"""Measure the time of a training step of each optimizer relative to AdamW's, as `opttune optimizers` shows it.

    python benchmarks/step_costs.py                  # on this machine's CPU
    python benchmarks/step_costs.py --device gpu     # on its GPU, beside the CPU's figures
    python benchmarks/step_costs.py --only soap,muon # only some; the others stay, if the machine is the same
    python benchmarks/step_costs.py --no-write       # only print them

Each optimizer of the catalog trains a transformer. In each round, an optimizer trains some steps right after as many of
AdamW's, so other work on the machine affects both. A figure is the median of the rounds. On a CPU, the time is that of
the processor, with one thread; on a GPU, it is wall time. The first steps do not count: they create states and do not
use preconditioners yet. The peak memory is that of all tensors during some more steps: weights, gradients, activations,
states and temporaries.

The figures are in `opttune/catalog/recorded_costs.json`; `make tables` copies them into the docs.
"""

import argparse
import platform
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1] / "examples"))

import torch
from gpu_bench.models import transformer
from torch.distributed._tools.mem_tracker import MemTracker
from torch.nn.attention import SDPBackend, sdpa_kernel

from opttune.build.fused import use_fused
from opttune.build.optimizer import build_optimizer
from opttune.catalog.lookup import find_optimizer
from opttune.catalog.optimizers import OPTIMIZERS
from opttune.catalog.recorded_costs import PATH, CostTable, RecordedCost, read_costs, write_costs
from opttune.errors import MissingExtraError
from opttune.recipe import Part, Recipe
from opttune.version import __version__

BLOCK = 10
"""Steps of a round: some optimizers do most of their work at every tenth."""
WARM_UP = 30
"""Steps before the first round: Shampoo in blocks uses its preconditioners from the 25th on."""
LONG_STEP = 1.0
"""From these seconds of a step on, a round and the warm-up have but `FEW`: Shampoo's are such, and all alike."""
FEW = 2
CONTEXT, CHARACTERS = 64, 128
NAMES = tuple(info.name for info in OPTIMIZERS)
BARE = "none"
"""The name under which a step without an optimizer is measured."""


@dataclass(frozen=True)
class Size:
    """What is trained, and how often."""

    width: int
    batch: int
    rounds: int
    warm_up: int = WARM_UP
    block: int = BLOCK

    @property
    def words(self) -> str:
        return f"a transformer of two layers, width {self.width}, batches of {self.batch} x {CONTEXT} characters"


SIZES = {"cpu": Size(256, 2, 5), "gpu": Size(1024, 16, 5)}


class Training:
    """A model and its optimizer, which does some steps at a time."""

    def __init__(self, name: str, size: Size, device: str) -> None:
        torch.manual_seed(0)
        self.device = "cuda" if device == "gpu" else "cpu"
        self.model = transformer(size.width).to(self.device)
        text = torch.randint(0, CHARACTERS, (size.batch, CONTEXT + 1), generator=torch.Generator().manual_seed(0))
        self.batch = (text.to(self.device),)
        self.optimizer: Any = None
        self.keeps_graph = False
        if name != BARE:
            info = find_optimizer(name)
            self.optimizer = build_optimizer(Recipe(Part(name)), self.model, total_steps=10_000)
            self.keeps_graph = info.needs_create_graph
            if info.needs_eval_mode_switch:
                self.optimizer.train()

    @property
    def parameters(self) -> int:
        return sum(one.numel() for one in self.model.parameters())

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.step()
        if self.device == "cuda":
            torch.cuda.synchronize()

    def peak_bytes(self, count: int) -> int:
        """Return the largest size of all tensors at any moment of some steps."""
        tracker = MemTracker()
        tracker.track_external(self.model, *self.batch, *([] if self.optimizer is None else [self.optimizer]))
        with tracker:
            for _ in range(count):
                tracker.reset_mod_stats()
                self.step()
        return int(tracker.get_tracker_snapshot("peak")[next(self.model.parameters()).device]["Total"])

    def step(self) -> None:
        # as the callback of such optimizers does: torch's fused attention has no second derivative
        needs_graph = self.keeps_graph and getattr(self.optimizer, "needs_graph_now", True)
        with sdpa_kernel(SDPBackend.MATH) if needs_graph else nullcontext():
            self.model.loss(self.batch).backward(create_graph=needs_graph)
        if self.optimizer is not None:
            if not self.optimizer.state:
                use_fused(self.optimizer)
            self.optimizer.step()
        self.model.zero_grad()


Make = Callable[[str, Size, str], Any]
Clock = Callable[[], float]


def measure(
    device: str, names: Sequence[str], size: Size, make: Make = Training, clock: Clock | None = None
) -> CostTable:
    """Return what a step of each optimizer costs."""
    clock = clock or (time.perf_counter if device == "gpu" else time.process_time)
    base, _ = _begun(make, "adamw", size, device, clock)
    trainings: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    slow = set()
    for name in (BARE, *names):
        try:
            trainings[name], is_slow = _begun(make, name, size, device, clock)
        except MissingExtraError:
            left_out[name] = f"opttune[{find_optimizer(name).extra}] was not installed"
            continue
        slow |= {name} if is_slow else set()
    rounds = _rounds(base, trainings, slow, size, clock)
    ratios = {name: [taken / usual for usual, taken in pairs] for name, pairs in rounds.items()}
    base_bytes = base.peak_bytes(size.block)
    memory = {name: one.peak_bytes(_block(name, slow, size)) / base_bytes for name, one in trainings.items()}
    costs = {name: _cost(ratios[name], memory[name]) for name in trainings if name != BARE}
    usual = median(usual for pairs in rounds.values() for usual, _ in pairs)
    return CostTable(
        device, about(device), size.words, base.parameters, round(1000 * usual, 2),
        round(median(ratios[BARE]), 3), costs, left_out,
    )  # fmt: skip


def _rounds(
    base: Any, trainings: dict[str, Any], slow: AbstractSet[str], size: Size, clock: Clock
) -> dict[str, list[tuple[float, float]]]:
    """Return the seconds of AdamW's step and of the one that followed it, for each optimizer and round."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in trainings}
    for number in range(size.rounds):
        for name, training in trainings.items():
            block = _block(name, slow, size)
            usual = _timed(base, size.block, clock) / size.block
            found[name].append((usual, _timed(training, block, clock) / block))
        print(f"  round {number + 1} of {size.rounds}", file=sys.stderr)
    return found


def _block(name: str, slow: AbstractSet[str], size: Size) -> int:
    return min(FEW, size.block) if name in slow else size.block


def _cost(ratios: Sequence[float], memory: float) -> RecordedCost:
    return RecordedCost(round(median(ratios), 3), round(min(ratios), 3), round(max(ratios), 3), round(memory, 3))


def _begun(make: Make, name: str, size: Size, device: str, clock: Clock) -> tuple[Any, bool]:
    """Return a training after its first steps, and whether they are long."""
    training = make(name, size, device)
    # the first one makes the state
    training.steps(1)
    is_long = _timed(training, 1, clock) > LONG_STEP
    training.steps(0 if is_long else max(0, size.warm_up - FEW))
    return training, is_long


def _timed(training: Any, count: int, clock: Clock) -> float:
    began = clock()
    training.steps(count)
    return clock() - began


def about(device: str) -> str:
    """Return the device, and the versions of what is measured."""
    name = torch.cuda.get_device_name() if device == "gpu" else f"{_processor()}, one thread"
    packages = ["torch", "pytorch_optimizer", *(["bitsandbytes"] if find_spec("bitsandbytes") else [])]
    return ", ".join([f"{name}; opttune {__version__}", *(f"{package} {version(package)}" for package in packages)])


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    found = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return found or platform.processor() or platform.machine()


def merged(table: CostTable, path: Path) -> CostTable:
    """Return what was measured for some optimizers with what is known of the others on the same machine."""
    known = next((one for one in read_costs(path) if one.device == table.device), None)
    if known is None:
        return table
    if (known.about, known.model, known.parameters) != (table.about, table.model, table.parameters):
        raise SystemExit(
            f"--only: the others were measured on another machine or with other versions ({known.about}; now "
            f"{table.about}). Measure all of them, without --only, or add --no-write."
        )
    costs = {**known.costs, **table.costs}
    left_out = {name: why for name, why in {**known.left_out, **table.left_out}.items() if name not in costs}
    return replace(known, costs={name: costs[name] for name in NAMES if name in costs}, left_out=left_out)


def show(table: CostTable) -> None:
    print(table.words)
    for name in sorted(table.costs, key=lambda name: table.costs[name].ratio):
        print(f"{name:20} {table.cost_words(name)}")
    for name, why in table.left_out.items():
        print(f"{name:20} not measured: {why}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=tuple(SIZES), default="cpu")
    parser.add_argument("--only", default="", metavar="a,b", help="optimizers to measure")
    parser.add_argument("--no-write", action="store_true", help="write no file")
    parser.add_argument("--out", type=Path, default=PATH, metavar="FILE", help="where to write")
    options = parser.parse_args()
    if options.device == "gpu" and not torch.cuda.is_available():
        parser.error("no CUDA device: torch finds none.")
    chosen = [name.strip() for name in options.only.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in NAMES]
    if unknown:
        parser.error(f"--only: unknown optimizers {', '.join(unknown)}; there are {', '.join(NAMES)}")
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="Using backward.. with create_graph=True")
    table = measure(options.device, chosen or NAMES, SIZES[options.device])
    show(table)
    if not options.no_write:
        write_costs(options.out, merged(table, options.out) if chosen else table)
        print(f"wrote {options.out}")


if __name__ == "__main__":
    main()

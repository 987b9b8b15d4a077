"""A race on two landscapes: how optimizers of the catalog move through a ravine and off a saddle.

    python examples/landscape_race.py --out-dir race

draws `race.png`, the whole paths, and `race.gif`, the race itself. Each racer is built from its row of the catalog, as
in a training; only its learning rate is set here, one for each landscape, chosen by hand: a race shows how they move,
not which is best.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from opttune import Recipe
from opttune.build.optimizer import build_optimizer
from opttune.recipe import Part

COLOURS = ("#1f6fb4", "#17a2b8", "#1b9e77", "#c9a400", "#d95f02", "#e7298a", "#7b5ea7")


@dataclass(frozen=True)
class Landscape:
    """A function of two variables to race on.

    `rates` holds each racer's learning rate here; `ends` the points where the race is won.
    """

    name: str
    height: Callable[[Tensor, Tensor], Tensor]
    start: tuple[float, float]
    ends: tuple[tuple[float, float], ...]
    view: tuple[float, float, float, float]
    rates: dict[str, float]


LANDSCAPES = (
    Landscape(
        name="a ravine, 40 times steeper across than along",
        height=lambda x, y: 0.5 * (0.05 * x**2 + 2.0 * y**2),
        start=(-9.0, 1.6),
        ends=((0.0, 0.0),),
        view=(-10.0, 3.0, -2.2, 2.2),
        rates={"sgd": 0.9, "momentum": 0.12, "rmsprop": 0.12, "adam": 0.3, "adamw": 0.3, "lion": 0.075, "muon": 0.15},
    ),
    Landscape(
        name="a saddle: down along y, but the start is all but on its ridge",
        height=lambda x, y: 0.5 * x**2 - 0.5 * y**2 + 0.06 * y**4,
        start=(-2.5, 1e-3),
        ends=((0.0, 2.041), (0.0, -2.041)),
        view=(-3.0, 1.5, -0.8, 2.9),
        rates={
            "sgd": 0.12,
            "momentum": 0.04,
            "rmsprop": 0.05,
            "adam": 0.08,
            "adamw": 0.08,
            "lion": 0.02,
            "muon": 0.05,
        },
    ),
)
# what a racer is called, and its options beside the learning rate; no weight decay, which pulls to the origin
RACERS: dict[str, tuple[str, dict[str, float]]] = {
    "sgd": ("SGD", {}),
    "momentum": ("momentum", {"weight_decay": 0.0}),
    "rmsprop": ("RMSprop", {}),
    "adam": ("Adam", {}),
    "adamw": ("AdamW", {"weight_decay": 0.01}),
    "lion": ("Lion", {"weight_decay": 0.0}),
    "muon": ("Muon", {"weight_decay": 0.0}),
}


class Point(nn.Module):
    """One point of the plane, as a matrix of one row, so that Muon takes it for one."""

    def __init__(self, start: tuple[float, float]) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.tensor([start]))


def race(name: str, landscape: Landscape, steps: int) -> Tensor:
    """Return the path of one racer: `(steps + 1, 2)`."""
    _, options = RACERS[name]
    point = Point(landscape.start)
    recipe = Recipe(Part(name, {"lr": landscape.rates[name], **options}))
    optimizer = build_optimizer(recipe, point, total_steps=steps)
    path = [point.place.detach().clone()[0]]
    for _ in range(steps):
        optimizer.zero_grad()
        landscape.height(point.place[0, 0], point.place[0, 1]).backward()
        optimizer.step()
        path.append(point.place.detach().clone()[0])
    return torch.stack(path)


def draw_ground(axes: Axes, landscape: Landscape) -> None:
    left, right, low, high = landscape.view
    x, y = torch.meshgrid(torch.linspace(left, right, 200), torch.linspace(low, high, 200), indexing="xy")
    axes.contourf(x, y, landscape.height(x, y), levels=30, cmap="Greys", alpha=0.55)
    axes.plot(*zip(*landscape.ends, strict=True), "*", color="black", markersize=11, linestyle="none")
    axes.plot(*landscape.start, "o", color="black", markersize=5)
    axes.set(xlim=(left, right), ylim=(low, high), xlabel="x", ylabel="y")
    axes.set_title(landscape.name, loc="left", fontsize=10)


def draw(paths: list[dict[str, Tensor]], folder: Path, frames: int) -> None:
    figure = Figure(figsize=(12, 5), layout="constrained")
    panels = figure.subplots(1, len(LANDSCAPES))
    moving = []
    for axes, landscape, racers in zip(panels, LANDSCAPES, paths, strict=True):
        draw_ground(axes, landscape)
        for (name, path), colour in zip(racers.items(), COLOURS, strict=True):
            label = f"{RACERS[name][0]}, lr {landscape.rates[name]:g}"
            (line,) = axes.plot(path[:, 0], path[:, 1], color=colour, linewidth=1.6, label=label)
            (head,) = axes.plot(*path[-1:].T, "o", color=colour, markersize=6)
            moving.append((line, head, path))
        axes.legend(fontsize=8, loc="upper left" if landscape is LANDSCAPES[1] else "upper right", framealpha=0.9)
    steps = len(moving[0][2]) - 1
    figure.suptitle(f"{steps} steps from the dot; the race is won at a star", x=0.01, ha="left", fontsize=12)
    figure.savefig(folder / "race.png", dpi=110)

    def move(frame: int) -> list[object]:
        step = round(frame * steps / max(1, frames - 1))
        for line, head, path in moving:
            line.set_data(path[: step + 1, 0], path[: step + 1, 1])
            head.set_data(path[step : step + 1, 0], path[step : step + 1, 1])
        return [part for line, head, _ in moving for part in (line, head)]

    figure.set_size_inches(10, 4.4)
    FuncAnimation(figure, move, frames=frames, blit=False).save(folder / "race.gif", PillowWriter(fps=15), dpi=60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--frames", type=int, default=60, help="pictures of the animation")
    parser.add_argument("--out-dir", type=Path, default=Path("race"))
    options = parser.parse_args()
    options.out_dir.mkdir(parents=True, exist_ok=True)
    paths = [{name: race(name, landscape, options.steps) for name in RACERS} for landscape in LANDSCAPES]
    for landscape, racers in zip(LANDSCAPES, paths, strict=True):
        print(landscape.name)
        for name, path in racers.items():
            left = min((path[-1] - torch.tensor(end)).norm().item() for end in landscape.ends)
            print(f"  {RACERS[name][0]:9} ends {left:.3f} from the nearest star")
    draw(paths, options.out_dir, options.frames)
    print(f"wrote {options.out_dir / 'race.png'} and {options.out_dir / 'race.gif'}")


if __name__ == "__main__":
    main()

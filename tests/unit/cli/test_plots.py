from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from opttune.build.schedule import multiplier
from opttune.catalog.lookup import find_schedule, schedule_names
from opttune.cli import plots
from opttune.cli.plots import WARMUP, plot_all_schedules, plot_schedule
from opttune.errors import InputError, RecipeError, UnknownNameError
from opttune.recipe import Part

CURVES = [name for name in schedule_names() if not find_schedule(name).follows_monitor]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is saved."""
    figures: list[Figure] = []
    save = plots._save

    def keep(figure: Figure, path: Any) -> None:
        figures.append(figure)
        save(figure, path)

    monkeypatch.setattr(plots, "_save", keep)
    return figures


@pytest.mark.parametrize("name", CURVES)
def test_the_curve_drawn_is_that_of_the_training(name: str, tmp_path: Path, drawn: list[Figure]) -> None:
    plot_schedule(name, tmp_path / "one.png", steps=20)
    axes = drawn[0].axes[0]
    factor = multiplier(Part(name), 20)

    assert list(axes.lines[0].get_xdata()) == [step / 20 for step in range(21)]
    assert list(axes.lines[0].get_ydata()) == [factor(min(step, 19)) for step in range(21)]
    assert axes.get_title(loc="left").startswith(f"{name}: ")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("share of the training", "share of the peak learning rate")
    assert (tmp_path / "one.png").stat().st_size > 1000


def test_a_schedule_that_takes_a_warmup_is_drawn_with_one_as_well(tmp_path: Path, drawn: list[Figure]) -> None:
    plot_schedule("cosine", tmp_path / "cosine.png", steps=20)
    plot_schedule("one_cycle", tmp_path / "one_cycle.png", steps=20)
    with_warmup, without = (figure.axes[0].lines for figure in drawn)
    factor = multiplier(Part("cosine", {"warmup_fraction": WARMUP}), 20)

    assert list(with_warmup[1].get_ydata()) == [factor(min(step, 19)) for step in range(21)]
    assert len(without) == 1


def test_all_schedules_with_a_curve_are_in_one_picture(tmp_path: Path, drawn: list[Figure]) -> None:
    plot_all_schedules(tmp_path / "all.png", steps=20)

    assert [axes.get_title(loc="left") for axes in drawn[0].axes if axes.get_visible()] == CURVES


@pytest.mark.parametrize("suffix", ["png", "PNG", "svg", "pdf"])
def test_the_suffix_says_the_format(suffix: str, tmp_path: Path) -> None:
    plot_schedule("linear", tmp_path / f"a.{suffix}", steps=5)
    first = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix.lower()]

    assert (tmp_path / f"a.{suffix}").read_bytes().startswith(first)


def test_a_training_of_one_step_can_be_drawn(tmp_path: Path) -> None:
    plot_all_schedules(tmp_path / "all.png", steps=1)

    assert (tmp_path / "all.png").exists()


def test_what_cannot_be_drawn_or_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"suffix must be one of .*png.*, got .*a\.docx"):
        plot_schedule("linear", tmp_path / "a.docx")
    with pytest.raises(InputError, match="cannot write"):
        plot_schedule("linear", tmp_path / "nowhere" / "a.png")
    with pytest.raises(InputError, match=">= 1, got 0"):
        plot_all_schedules(tmp_path / "a.png", steps=0)
    with pytest.raises(RecipeError, match="it has no curve"):
        plot_schedule("plateau", tmp_path / "a.png")
    with pytest.raises(UnknownNameError, match="Did you mean 'linear'"):
        plot_schedule("linaer", tmp_path / "a.png")

    assert list(tmp_path.iterdir()) == []

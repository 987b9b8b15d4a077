from pathlib import Path

import pytest

from opttune.build.schedule import has_curve, multiplier
from opttune.catalog.lookup import find_schedule, schedule_names
from opttune.cli.plots import WARMUP, plot_all_schedules, plot_schedule, schedule_chart
from opttune.errors import InputError, RecipeError, UnknownNameError
from opttune.recipe import Part

CURVES = [name for name in schedule_names() if has_curve(find_schedule(name))]


@pytest.mark.parametrize("name", CURVES)
def test_the_curve_drawn_is_that_of_the_training(name: str) -> None:
    chart = schedule_chart(name, 20)
    (panel,) = chart.panels
    factor = multiplier(Part(name), 20)

    assert panel.series[0].x == [step / 20 for step in range(21)]
    assert panel.series[0].y == [factor(min(step, 19)) for step in range(21)]
    assert chart.title.startswith(f"{name}: ")
    assert (panel.x_label, panel.y_label) == ("share of the training", "share of the peak learning rate")


def test_a_schedule_that_takes_a_warmup_is_drawn_with_one_as_well() -> None:
    with_warmup, without = (schedule_chart(name, 20).panels[0].series for name in ("cosine", "one_cycle"))
    factor = multiplier(Part("cosine", {"warmup_fraction": WARMUP}), 20)

    assert with_warmup[1].y == [factor(min(step, 19)) for step in range(21)]
    assert len(without) == 1


def test_one_picture_shows_all_schedules_that_have_a_curve(tmp_path: Path) -> None:
    plot_all_schedules(tmp_path / "all.svg", steps=20)
    picture = (tmp_path / "all.svg").read_text()

    assert all(f">{name}<" in picture for name in CURVES)


@pytest.mark.parametrize("suffix", ["png", "PNG", "svg", "pdf"])
def test_the_suffix_says_the_format(suffix: str, tmp_path: Path) -> None:
    plot_schedule("linear", tmp_path / f"a.{suffix}", steps=5)
    first = {"png": b"\x89PNG", "svg": b"<svg", "pdf": b"%PDF"}[suffix.lower()]

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

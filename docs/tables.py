"""Write the pages of the docs that are made of tables: the catalog, the spaces, compatibility, examples, the gallery.

python docs/tables.py
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

from opttune.catalog.lookup import find_optimizer, find_schedule, optimizer_names, schedule_names
from opttune.catalog.recorded_costs import recorded_costs
from opttune.cli.listing import QUIRKS, recorded
from opttune.space import auto
from opttune.space.parse import load_space, space_names
from tests.compat.features import FEATURES
from tests.compat.published import PUBLISHED

# each kind of module that `auto` tells apart
KINDS = [plan for plan in vars(auto).values() if isinstance(plan, auto.Plan)]
WRITTEN = "<!-- written by docs/tables.py -->\n\n"
BEGIN = "<!-- figures: written by docs/tables.py from docs/figures/readme.json -->\n"
END = "<!-- /figures -->\n"
RECORDED = "<!-- recorded -->\n"
"""The place of the record of `benchmarks/gallery.py` in a page of the gallery."""
GALLERY: Mapping[str, Any] = json.loads((DOCS / "figures" / "gallery.json").read_text(encoding="utf-8"))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines) + "\n"


def optimizers_page() -> str:
    """Return the page on choosing an optimizer and a schedule."""
    infos = [find_optimizer(name) for name in optimizer_names()]
    spaces = {name: load_space(name) for name in space_names()}
    rows = []
    for info in infos:
        size = "?" if info.state_bytes is None else f"{info.state_bytes:.3g}"
        where = [name for name, space in spaces.items() if any(b.name == info.name for b in space.optimizers)]
        quirks = [words for quirk, words in QUIRKS.items() if getattr(info, quirk, False)]
        know = "; ".join([*quirks, info.advice]).strip("; ")
        rows.append((f"`{info.name}`", info.summary, size, *_measured(info.name), ", ".join(where), know))
    schedules = [(f"`{i.name}`", i.summary, i.advice, i.source) for i in map(find_schedule, schedule_names())]
    return (
        WRITTEN
        + (DOCS / "optimizers.md.in").read_text()
        + table(("module", "optimizers, the safest first", "schedules of the space"), _kinds())
        + "\n"
        + table(("optimizer", "ranges of the space", "reason"), _reasons())
        + "\n## All optimizers\n\nThe state is in bytes per parameter, measured in float32. "
        + _step_words()
        + table(("optimizer", "description", "state", "step", "memory", "in the spaces", "notes"), rows)
        + "\n## Schedules\n\n![The schedules, as shares of the peak learning rate](images/schedules.png)\n\n"
        + table(("schedule", "description", "notes", "source"), schedules)
    )


def _measured(name: str) -> list[str]:
    """Return what was recorded of an optimizer's step: its time and its memory."""
    return [
        ", ".join(f"{value:.3g} ({device.upper()})" for device, value in recorded(name, figure).items())
        for figure in ("ratio", "memory")
    ]


def _step_words() -> str:
    """Return an explanation of the columns `step` and `memory`."""
    own = ", ".join(f"{found.costs['adamw'].ratio:.3g} ({found.device.upper()})" for found in recorded_costs())
    return (
        "The step and the memory are the time and the peak memory of a training step relative to AdamW's "
        "(`python benchmarks/step_costs.py`). "
        + " ".join(found.words for found in recorded_costs())
        + f" A second AdamW gave {own}, so smaller differences mean nothing. With larger batches, an optimizer's share "
        "of the step is smaller. Other devices give other figures, most of all for `muon`: it multiplies matrices, "
        "on a CPU in float32, elsewhere in bfloat16. For your module, see `step_seconds` in the result of a search.\n\n"
    )


def _kinds() -> Iterable[Sequence[str]]:
    """Yield the choices of `auto` for each kind of module."""
    for plan in KINDS:
        picks = [f"[`{pick.optimizer}`](spaces.md#{pick.space})" for pick in plan.picks]
        words = plan.words.replace("of {trainable:,} trained parameters ", "")
        yield words, ", ".join(picks), f"[{plan.home}](spaces.md#{plan.home})"


def _reasons() -> Iterable[Sequence[str]]:
    """Yield each optimizer and space that `auto` may choose, once, with the reason."""
    for pick in sorted({pick for plan in KINDS for pick in plan.picks}, key=lambda pick: (pick.optimizer, pick.space)):
        yield f"`{pick.optimizer}`", f"[{pick.space}](spaces.md#{pick.space})", pick.why


def spaces_page() -> str:
    """Return the page on spaces: their syntax, and the shipped spaces with their sources."""
    parts = []
    for name in space_names():
        space = load_space(name)
        names = ", ".join(branch.name for branch in space.optimizers)
        parts.append(
            f"### {name}\n\n{space.description}. Optimizers: {names}.\n\n"
            + table(("field", "source"), ((f"`{field}`", found.source or "") for field, found in space.parameters()))
        )
    return WRITTEN + (DOCS / "spaces.md.in").read_text() + "\n" + "\n".join(parts)


def compatibility_page() -> str:
    """Return the page on the tested modules and features."""
    published = [
        (f"`{row.module}`", row.package, row.field, f"`{row.namespace}`", _verdict(row.refused), row.note)
        for row in PUBLISHED
    ]
    features = [(row.words, _verdict(row.refused), row.note) for row in FEATURES]
    return (
        WRITTEN
        + "# What works\n\nEach row is a test that runs with every change. It searches with the module, or trains it "
        + "with a recipe, in the real Trainer. For a refusal, it compares the message with the text here.\n\n"
        + "## Published modules\n\nThese modules of packages on PyPI run unchanged, with their own data modules or "
        + "loaders.\n\n"
        + table(("module", "package", "field", "written for", "searched", "note"), published)
        + "\n## Features of a module and its Trainer\n\n"
        + table(("feature", "works", "note"), features)
    )


def examples_page() -> str:
    """Return the page of examples, with the output of their full size."""
    figures = json.loads((DOCS / "figures" / "examples.json").read_text())
    parts = []
    for name, figure in figures.items():
        source = (DOCS.parent / "examples" / name).read_text()
        words = source.split('"""')[1].strip().split("\n\n")[0].replace("\n", " ")
        said = f"```text\n{figure['printed']}\n```\n" if figure["printed"] else "Its full size has not been run.\n"
        parts.append(f"## {name}\n\n{words}\n\n```bash\n{figure['command']}\n```\n\n{_size(source)}{said}")
    return WRITTEN + (DOCS / "examples.md.in").read_text() + "\n" + "\n".join(parts)


def gallery_index() -> str:
    """Return the index of the gallery: a row for each page, and the scenarios without a record."""
    rows = []
    for name, one in GALLERY.items():
        gain = f"{one['monitor']} {one['baseline_value']:.4g} → {one['best_value']:.4g}"
        rows.append((f"[{_title(name)}](gallery/{name}.md)", _own_words(one), gain, _against_own(one)))
    head = ("page", "own recipe", "own → best, on the search's seed", "the verdict on new seeds")
    missing = sorted({path.name.partition(".")[0] for path in (DOCS / "gallery").glob("*.md.in")} - set(GALLERY))
    unrecorded = [f"- {_title(name)}: `python benchmarks/gallery.py {name}`\n" for name in missing]
    said = f"\nPrepared, and not recorded yet:\n\n{''.join(unrecorded)}" if missing else ""
    pages = "\n".join(f"gallery/{name}" for name in GALLERY)
    contents = f"\n```{{toctree}}\n:hidden:\n\n{pages}\n```\n"
    return WRITTEN + (DOCS / "gallery.md.in").read_text(encoding="utf-8") + "\n" + table(head, rows) + said + contents


def _title(name: str) -> str:
    text = (DOCS / "gallery" / f"{name}.md.in").read_text(encoding="utf-8")
    return text.partition("\n")[0].removeprefix("# ")


def gallery_page(name: str) -> str:
    """Return a page of the gallery: its text around the record."""
    text = (DOCS / "gallery" / f"{name}.md.in").read_text(encoding="utf-8")
    return WRITTEN + text.replace(RECORDED, _recorded(name, GALLERY[name]))


def _recorded(name: str, one: Mapping[str, Any]) -> str:
    """Return the record of a scenario: the commands, the curve, the answer and the verdict."""
    seconds, versions = one["seconds"], ", ".join(f"{name} {number}" for name, number in one["versions"].items())
    command = one["search"].replace(" --", " \\\n    --", 1)
    optimizers = [(f"`{row['optimizer']}`", str(row["trials"]), _number(row["best"]), _size_of(row["state_bytes"]))
                  for row in one["optimizers"]]  # fmt: skip
    best = f"best {one['monitor']}"
    curve = [(f"{row['trainings']:.1f}", _number(row[best]), str(row["trial"])) for row in one["best_over_cost"]]
    return (
        f"## The command\n\n```bash\n{command}\n{one['confirm']}\n```\n\n"
        f"Recorded with seed {one['seed']} and one thread: the search took {seconds['search']:.0f} s, the verdict "
        f"{seconds['confirm']:.0f} s ({versions}).\n\n"
        f"## The curve\n\n![Best {one['monitor']} over the cost of the search](../images/gallery/{name}.svg)\n\n"
        "Each dot is a training of the full length, the line the best so far, the dashed line the module's own "
        "recipe.\n\n"
        + table(("after full trainings", best, "trial"), curve)
        + f"\n## The answer\n\n```text\n{_text([*one['began'], '...', *one['answer']])}\n```\n\n"
        + table(("optimizer", "trials", best, "its state"), optimizers)
        + f"\n## The verdict\n\n```text\n{_text(one['verdict_printed'])}\n```\n"
    )


def _text(lines: Sequence[str]) -> str:
    return "\n".join(line.rstrip() for line in lines)


def _number(value: float | None) -> str:
    return "none finished" if value is None else f"{value:.5g}"


def _size_of(state_bytes: int) -> str:
    return f"{state_bytes / 1000:,.1f} kB"


def _own_words(one: Mapping[str, Any]) -> str:
    """Return a module's own optimizer as the search names it."""
    line = next(line for line in one["began"] if line.startswith("replaces "))
    return f"`{line.removeprefix('replaces ').partition(' by recipes of ')[0]}`"


def _against_own(one: Mapping[str, Any]) -> str:
    """Return the part of a verdict about the module's own optimizer."""
    return next(part for part in one["verdict"]["verdict"].split("; ") if "your optimizer" in part)


def readme() -> str:
    """Return README.md with the figures of `figures/readme.json`."""
    text = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    found = json.loads((DOCS / "figures" / "readme.json").read_text(encoding="utf-8"))
    lines = [f"- {one['claim']} [`{one['command']}`](docs/{one['page']})\n" for one in found]
    head, begin, rest = text.partition(BEGIN)
    return head + begin + "".join(lines) + END + rest.partition(END)[2]


def _size(source: str) -> str:
    """Return an example's full size: the defaults of its options."""
    options = re.findall(r'"--([a-z-]+)", type=\w+, default=([\d.]+)', source)
    return f"Full size: {', '.join(f'{name} {value}' for name, value in options)}.\n\n" if options else ""


def _verdict(refused: str) -> str:
    return f"refused: “{refused}”" if refused else "yes"


PAGES: dict[str, Callable[[], str]] = {
    "optimizers.md": optimizers_page,
    "spaces.md": spaces_page,
    "compatibility.md": compatibility_page,
    "examples.md": examples_page,
    "gallery.md": gallery_index,
    **{f"gallery/{name}.md": partial(gallery_page, name) for name in GALLERY},
}


if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
        print(f"wrote docs/{name}")
    (DOCS.parent / "README.md").write_text(readme(), encoding="utf-8")
    print("wrote the figures of README.md")

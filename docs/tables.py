"""Write the pages of the docs that are made of tables: the catalog, the spaces, compatibility and the examples.

python docs/tables.py
"""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

from opttune.catalog.lookup import find_optimizer, find_schedule, optimizer_names, schedule_names
from opttune.catalog.recorded_costs import recorded_costs
from opttune.cli.listing import QUIRKS, step_costs
from opttune.space import auto
from opttune.space.parse import load_space, space_names
from tests.compat.features import FEATURES
from tests.compat.published import PUBLISHED

# each kind of module that `auto` tells apart
KINDS = [plan for plan in vars(auto).values() if isinstance(plan, auto.Plan)]
WRITTEN = "<!-- written by docs/tables.py -->\n\n"
BEGIN = "<!-- figures: written by docs/tables.py from docs/figures/readme.json -->\n"
END = "<!-- /figures -->\n"


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
        costs = [f"{ratio:.3g} ({device.upper()})" for device, ratio in step_costs(info.name).items()]
        know = "; ".join([*quirks, info.advice]).strip("; ")
        rows.append((f"`{info.name}`", info.summary, size, ", ".join(costs), ", ".join(where), know))
    schedules = [(f"`{i.name}`", i.summary, i.advice, i.source) for i in map(find_schedule, schedule_names())]
    return (
        WRITTEN
        + (DOCS / "optimizers.md.in").read_text()
        + table(("module", "optimizers, the safest first", "schedules of the space"), _kinds())
        + "\n"
        + table(("optimizer", "ranges of the space", "reason"), _reasons())
        + "\n## All optimizers\n\nThe state is in bytes per parameter, measured in float32. "
        + _step_words()
        + table(("optimizer", "description", "state", "step", "in the spaces", "notes"), rows)
        + "\n## Schedules\n\n![The schedules, as shares of the peak learning rate](images/schedules.png)\n\n"
        + table(("schedule", "description", "notes", "source"), schedules)
    )


def _step_words() -> str:
    """Return what the column `step` is."""
    own = ", ".join(f"{found.costs['adamw'].ratio:.3g} ({found.device.upper()})" for found in recorded_costs())
    return (
        "The step is the time of a training step over that of AdamW's (`python benchmarks/step_costs.py`). "
        + " ".join(found.words for found in recorded_costs())
        + f" AdamW beside itself gave {own}: smaller differences say nothing. With larger batches an optimizer's own "
        "part is smaller. On other devices the figures differ, most of all those of `muon`, which multiplies matrices "
        "in bfloat16: the processor that was measured has no instructions for it. `step_seconds` in the result of a "
        "search says what holds for your module.\n\n"
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


PAGES = {
    "optimizers.md": optimizers_page,
    "spaces.md": spaces_page,
    "compatibility.md": compatibility_page,
    "examples.md": examples_page,
}


if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
        print(f"wrote docs/{name}")
    (DOCS.parent / "README.md").write_text(readme(), encoding="utf-8")
    print("wrote the figures of README.md")

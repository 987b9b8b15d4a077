"""Words that the code, the docs and the messages do not use, and what to write instead."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# pattern -> what to write instead. Identifiers are split into their words first: `as_it_came`, `AsItCame`. Case does
# not matter. Add a word only if it has no good use anywhere: the list must stay short and raise no false alarm.
WORDS = {
    # private names of parts that the field has names for
    r"climb(s|ed|er|ers|ing)?": "search policy; of a rate or a loss: rise",
    r"ladders?": "successive halving, rungs",
    r"ledgers?": "trial recorder",
    r"asides?": "auxiliary run",
    r"strangers?": "orphan",
    r"leash(es)?": "parent watchdog",
    r"evidence": "observation",
    r"finales?|finalists?": "re-evaluation, top candidates",
    r"surveys?|surveyed": "inspection",
    r"couriers?": "sender",
    r"tellers?": "message writer",
    r"hand(s|ed|ing)? on": "dispatch, pass",
    r"ears?|deaf|hears?|heard|hearing": "listener, receive",
    r"handovers?": "spawn result",
    r"doors?": "entry point",
    r"hopeless": "infeasible",
    # what users read
    r"as it came": "baseline, your own optimizer",
    r"heed(s|ed|ing)?": "warnings; handle, follow",
    r"(come|comes|came|coming) through": "finish",
    r"(come|comes|came) to anything": "diverge or stall",
    r"outranked(?!`)": "not promoted (the stored reason stays `outranked`)",
    # English that is translated word for word
    r"stands?|stood|standing": "is, lies, means, appears; of a loss: stall",
    r"nobody|somebody|whom?": "name the process: another process, no process, that",
    r"so many": "that many, a number",
    r"of its own": "its own, separate",
    r"(go|goes|going|gone|went) on": "continue, resume",
}
PATTERN = re.compile(rf"\b(?:{'|'.join(f'(?P<w{n}>{words})' for n, words in enumerate(WORDS))})\b", re.IGNORECASE)
INSTEAD = list(WORDS.values())
# the value that outside programs read
STORED = re.compile(r"OUTRANKED = \"outranked\"|StopReason\.OUTRANKED|\"finalists\"|finalists/")

CHECKED = (
    "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/*.md", "docs/*.in", "docs/gallery/*.in", "docs/*.py",
    "opttune/**/*.py", "search_spaces/*.yaml",
)  # fmt: skip


def found_in(line: str) -> list[str]:
    """Return what is wrong with a line: each word, and what to write instead.

    Example:
        >>> found_in("def as_it_came(self):")
        ["'as it came' -> baseline, your own optimizer"]
    """
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", STORED.sub("", line))
    return [f"{match[0]!r} -> {INSTEAD[int(str(match.lastgroup)[1:])]}" for match in PATTERN.finditer(words)]


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the numbered lines of a file: of a notebook those of its cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "".join(line for cell in json.loads(text)["cells"] for line in [*cell["source"], "\n"])
    yield from enumerate(text.splitlines(), 1)


def test_code_and_docs_use_the_words_of_the_field() -> None:
    paths = [path for pattern in CHECKED for path in sorted(ROOT.glob(pattern))]
    assert len(paths) > 200
    wrong = [
        f"{path.relative_to(ROOT)}:{number}: {found}"
        for path in paths
        for number, line in [(0, path.stem), *lines_of(path)]
        for found in found_in(line)
    ]
    assert not wrong, "\n" + "\n".join(wrong)


def test_tests_are_named_in_the_words_of_the_field() -> None:
    paths = sorted((ROOT / "tests").rglob("*.py"))
    assert len(paths) > 100
    wrong = [
        f"{path.relative_to(ROOT)}:{number}: {found}"
        for path in paths
        for number, line in [(0, path.stem), *lines_of(path)]
        if number == 0 or re.match(r" *(def|class) ", line)
        for found in found_in(line)
    ]
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ("def hand_on(self):", True),
        ("class StandingOrder:", True),
        ("Nobody trains it", True),
        ("under the standard, understanding and outstanding", False),
        ("whoever, whole, ear1y, search, clear, heart", False),
        ('    OUTRANKED = "outranked"', False),
        ("| `outranked` | it was not promoted |", False),
        ("it was outranked", True),
    ],
)
def test_whole_words_are_found_in_text_and_identifiers(line: str, is_found: bool) -> None:
    assert bool(found_in(line)) is is_found

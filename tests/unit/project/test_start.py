"""Starting a project's LightningCLI as its own script does."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from opttune.errors import InputError
from opttune.project.start import CliSource, find_script, start_cli
from tests.support.cli_project import CONFIG, MAIN, SUBCLASS_CONFIG, write_project

UNGUARDED = MAIN.replace('if __name__ == "__main__":\n    main()', "main()")
NOT_RUN = MAIN.replace("seed_everything_default=7", "run=False")
# a CLI without its own config, started by an entry point of the package
FUNCTION_ONLY = MAIN.partition("if __name__")[0]


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    path, modules, arguments = list(sys.path), dict(sys.modules), list(sys.argv)
    monkeypatch.chdir(tmp_path)
    yield
    assert sys.argv == arguments
    sys.path[:] = path
    sys.modules["__main__"] = modules["__main__"]
    for name in ("network", "main", "train", "other"):
        sys.modules.pop(name, None)


def fit_section(source: CliSource) -> dict[str, object]:
    cli = start_cli(source)
    config = cli.config.get("fit", cli.config)
    return dict(config.model.as_dict())


@pytest.mark.parametrize("main", [MAIN, UNGUARDED, NOT_RUN], ids=["guarded", "unguarded", "run=False"])
def test_the_script_is_stopped_once_its_arguments_are_read(main: str) -> None:
    write_project(Path(), main=main)
    made = fit_section(CliSource(("config.yaml",), "main.py"))
    assert made["width"] == 24
    # linked by the project's own CLI
    assert made["features"] == 8


def test_the_cli_is_as_it_was_afterwards() -> None:
    from lightning.pytorch.cli import LightningCLI

    before = LightningCLI.__init__
    write_project(Path())
    start_cli(CliSource(("config.yaml",), "main.py"))
    assert LightningCLI.__init__ is before


def test_a_function_of_a_script_starts_it() -> None:
    write_project(Path(), main=FUNCTION_ONLY)
    assert fit_section(CliSource(("config.yaml",), "main.py:main"))["width"] == 24


def test_a_function_of_a_module_starts_it() -> None:
    write_project(Path(), main=FUNCTION_ONLY)
    assert fit_section(CliSource(("config.yaml",), "main:main"))["width"] == 24


def test_a_later_config_and_arguments_override() -> None:
    write_project(Path())
    Path("more.yaml").write_text("model: {width: 5}\n")
    assert fit_section(CliSource(("config.yaml", "more.yaml"), "main.py"))["width"] == 5
    both = CliSource(("config.yaml", "more.yaml"), "main.py", arguments=("--model.width=6",))
    assert fit_section(both)["width"] == 6


def test_a_config_with_the_sections_of_all_subcommands_is_read() -> None:
    nested = "fit:\n" + "\n".join(f"  {line}" for line in CONFIG.splitlines())
    write_project(Path(), config=nested)
    assert fit_section(CliSource(("config.yaml",), "main.py"))["width"] == 24


def test_environment_variables_count_as_in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    main = MAIN.replace("seed_everything_default=7", 'parser_kwargs={"default_env": True}')
    write_project(Path(), main=main, config=CONFIG.replace("  width: 24\n", ""))
    monkeypatch.setenv("PL_FIT__MODEL__WIDTH", "9")
    assert fit_section(CliSource(("config.yaml",), "main.py"))["width"] == 9


@pytest.mark.parametrize("namespace", ["lightning.pytorch", "pytorch_lightning"])
def test_without_a_script_the_config_names_the_classes_of_either_name(namespace: str) -> None:
    write_project(Path(), namespace, SUBCLASS_CONFIG, main="")
    made = fit_section(CliSource(("config.yaml",)))
    assert made["class_path"] == "network.Net"
    assert made["init_args"]["width"] == 12  # type: ignore[index]


def test_the_classes_may_be_named_beside_the_config() -> None:
    config = SUBCLASS_CONFIG.partition("model:")[0] + "model: {features: 8, width: 4}\ntrainer: {max_steps: 12}\n"
    write_project(Path(), config=config, main="")
    assert fit_section(CliSource(("config.yaml",), model="network.py:Net", data="network.py:Points"))["width"] == 4


def test_a_key_that_the_project_does_not_know_is_named() -> None:
    write_project(Path(), config=CONFIG.replace("width:", "widht:"))
    with pytest.raises(InputError, match=r"main.py and config.yaml: .*widht"):
        start_cli(CliSource(("config.yaml",), "main.py"))


def test_a_config_without_classes_and_without_a_script_is_refused() -> None:
    write_project(Path(), main="")
    with pytest.raises(InputError, match=r"config.yaml: .*model"):
        start_cli(CliSource(("config.yaml",)))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (CliSource(("nowhere.yaml",), "main.py"), "there is no file nowhere.yaml"),
        (CliSource(("config.yaml",), "nowhere.py"), "--cli: there is no file nowhere.py"),
        (CliSource(("config.yaml",), "network.py"), "network.py makes no LightningCLI when it is run"),
        (CliSource(("config.yaml",), "other.py"), r"other.py fails when it is run: ValueError: two \(.*other.py:1\)"),
    ],
)
def test_what_cannot_be_started_is_named(source: CliSource, words: str) -> None:
    write_project(Path())
    Path("other.py").write_text("raise ValueError('two')")
    with pytest.raises(InputError, match=words):
        start_cli(source)


def test_the_script_is_found_in_the_working_folder_or_beside_the_config() -> None:
    write_project(Path("inner"))
    assert find_script(("inner/config.yaml",)) == "inner/main.py"
    write_project(Path("work"), main=MAIN)
    assert find_script(("inner/config.yaml",), Path("work")) == "work/main.py"
    assert find_script(("config.yaml",), Path("empty")) == ""


def test_of_several_scripts_main_is_taken_and_others_are_asked_about() -> None:
    write_project(Path())
    Path("train.py").write_text(MAIN)
    assert find_script(("config.yaml",)) == "main.py"
    Path("main.py").rename("other.py")
    with pytest.raises(InputError, match=r"Give --cli FILE; there are other.py, train.py"):
        find_script(("config.yaml",))

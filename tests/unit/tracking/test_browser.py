"""What a person sees in MLflow's own pages: a real server, a real browser."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By

import opttune
from opttune.tracking.settings import Tracking
from tests.support.search_models import Classifier, loaders
from tests.support.searches import make_database, make_space
from tests.unit.tracking.conftest import MlflowServer, free_port

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), "")
DRIVER = shutil.which("chromedriver") or ""
SECONDS = 90
PICTURES = Path(__file__).parents[3] / "build" / "screenshots"
"""Where each test leaves what it saw."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver (Debian: chromium, chromium-driver)"
    ),
]

EXPERIMENT = "points"
SPACE = """
description: three optimizers, one of which diverges
optimizer:
  adamw:
    lr: {low: 1e-4, high: 1e-1, log: true, prior: 1e-2, source: test}
    weight_decay: {choices: [0.0, 0.1], source: test}
  muon:
    lr: {low: 1e-3, high: 1e-1, log: true, prior: 2e-2, source: test}
  sgd:
    lr: {choices: [1e3], source: test}
schedule:
  linear:
    warmup_fraction: {choices: [0.05, 0.1], source: test}
  cosine: {}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    folder = tmp_path_factory.mktemp("browser")
    make_database(folder)
    server = MlflowServer(folder / "mlflow.db", free_port())
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def result(server: MlflowServer) -> Any:
    folder = server.database.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        return opttune.search(
            Classifier, loaders, space=make_space(SPACE), max_steps=100, budget=9, study="points-classifier",
            tracking_uri=server.uri, out_dir=folder / "out", progress=False,
            tracking=Tracking(report=True, log_data=True, system_metrics=True),
        )  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage",
        "--window-size=1600,1100", f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):  # fmt: skip
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    browser.set_page_load_timeout(SECONDS)
    yield browser
    browser.quit()


class Page:
    """One page of MLflow's, waited for."""

    def __init__(self, browser: Any, server: MlflowServer, place: str) -> None:
        self.browser = browser
        browser.switch_to.default_content()
        browser.get("about:blank")
        browser.get(f"{server.uri}/#/{place}")

    def text(self) -> str:
        script = "return (document.body ? document.body.innerText : '') + [...document.querySelectorAll('svg text')]"
        return str(self.browser.execute_script(script + ".map(each => each.textContent).join('\\n')"))

    def until(self, found: Callable[[], Any], what: str) -> Any:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            if result := found():
                return result
            time.sleep(0.3)
        self.save("failed")
        raise AssertionError(f"{what} did not come, but: {self.text()[:3000]}")

    def wait_for(self, *words: str) -> str:
        def found() -> str:
            text = self.text()
            return text if all(word in text for word in words) else ""

        return str(self.until(found, str(words)))

    def find(self, xpath: str) -> Any:
        shown = [element for element in self.browser.find_elements(By.XPATH, xpath) if element.is_displayed()]
        return shown[0] if shown else None

    def click(self, xpath: str) -> None:
        element = self.until(lambda: self.find(xpath), xpath)
        self.browser.execute_script("arguments[0].click()", element)

    def close_assistant(self) -> None:
        for element in self.browser.find_elements(By.XPATH, "//*[@aria-label='Close']"):
            self.browser.execute_script("(arguments[0].closest('button') || arguments[0]).click()", element)

    def choose(self, label: str, option: str) -> None:
        """Choose an option of one of the compare page's two selects."""
        place = f"//*[normalize-space(text())='{label}']/following::*[contains(@class,'select-selector')][1]"
        ActionChains(self.browser).move_to_element(self.until(lambda: self.find(place), label)).click().perform()
        self.browser.switch_to.active_element.send_keys(option)
        self.click(f"//*[contains(@class,'select-item-option')][@title='{option}']")
        self.browser.switch_to.active_element.send_keys(Keys.ESCAPE)

    def save(self, name: str) -> None:
        PICTURES.mkdir(parents=True, exist_ok=True)
        time.sleep(1.0)  # what is in the middle of being drawn
        self.browser.save_screenshot(str(PICTURES / f"{name}.png"))


def runs(server: MlflowServer, role: str) -> list[Any]:
    experiment = server.client().get_experiment_by_name(EXPERIMENT)
    return list(server.client().search_runs([experiment.experiment_id], f"tags.`opttune.role` = '{role}'"))


@pytest.fixture(scope="module")
def parent(result: Any, server: MlflowServer) -> Any:
    (parent,) = runs(server, "study")
    assert parent.info.run_id == result.run_id
    return parent


@pytest.fixture(scope="module")
def home(parent: Any) -> str:
    return f"experiments/{parent.info.experiment_id}/runs/{parent.info.run_id}"


def test_the_experiment_shows_the_search_with_its_trials_under_it_and_their_states(
    browser: Any, server: MlflowServer, parent: Any, result: Any
) -> None:
    page = Page(browser, server, f"experiments/{parent.info.experiment_id}/runs")
    page.wait_for("points-classifier")
    page.close_assistant()
    expand = "//div[@role='gridcell']//button[contains(@data-component-id,'runnamecellrenderer')]"
    page.click(expand)
    page.wait_for("#0 adamw", "#1 adamw")
    page.click("//button[normalize-space()='Columns']")
    page.until(lambda: page.find("//input[@placeholder='Search columns']"), "columns").send_keys("opttune.state")
    page.click("//span[@title='opttune.state']/preceding-sibling::span[contains(@class,'tree-checkbox')]")
    ActionChains(browser).move_by_offset(600, 30).click().perform()
    # the table may have been folded up again
    page.until(lambda: "#0 adamw" in page.text() or page.click(expand), "the trials")
    text = page.wait_for("opttune.state", "complete", "diverged", "#0 adamw")
    page.save("mlflow_runs")

    # the search, its trials, and the baseline: nothing else
    assert "baseline" in text
    assert f"{len(result.trials) + 2} matching runs" in text


def test_the_searchs_page_begins_with_the_answer(browser: Any, server: MlflowServer, home: str, result: Any) -> None:
    page = Page(browser, server, home)
    page.wait_for("Description", f"val_loss {result.best_value:.5g}", "Child runs")
    page.close_assistant()
    page.click("//*[normalize-space()='Show more']")
    page.wait_for("Warnings", "Trials", "Cost")
    page.save("mlflow_parent")

    # Markdown, drawn
    assert page.find("//table//th[normalize-space()='recipe']")
    assert page.find("//h3[normalize-space()='Trials']")
    assert "**" not in page.text()


def test_the_data_and_the_load_of_the_machine_are_shown(browser: Any, server: MlflowServer, home: str) -> None:
    page = Page(browser, server, home)
    page.wait_for("Datasets", "loaders training", "+1", "System metrics (", "system/cpu_utilization_percentage")
    page.close_assistant()
    page.save("mlflow_machine")


def test_a_picture_of_the_report_is_shown(browser: Any, server: MlflowServer, home: str, result: Any) -> None:
    page = Page(browser, server, f"{home}/artifacts/report/value_over_lr.png")
    page.wait_for("value_over_lr.png", "best_over_cost.png")
    page.close_assistant()
    script = "return [...document.querySelectorAll('img')].some(each => each.naturalWidth > 800)"
    page.until(lambda: browser.execute_script(script), "the picture")
    page.save("mlflow_picture")


def test_the_report_itself_is_shown_with_its_figures(
    browser: Any, server: MlflowServer, home: str, result: Any
) -> None:
    page = Page(browser, server, f"{home}/artifacts/report.html")
    page.wait_for("report.html")
    page.close_assistant()
    frame = page.until(lambda: page.find("//iframe"), "the frame of the report")
    browser.switch_to.frame(frame)
    page.wait_for("points-classifier", "Value over the learning rate", "All trials")
    figures = "return document.querySelectorAll('.vega-embed canvas').length"
    page.until(lambda: browser.execute_script(figures) >= 6, "the figures")
    browser.switch_to.default_content()
    page.save("mlflow_report")


def test_the_report_opens_from_disk_and_its_table_sorts(browser: Any, result: Any) -> None:
    browser.get((result.config.out_dir / "report.html").as_uri())
    rows = "[...document.querySelector('th.sorts').closest('table').tBodies[0].rows]"
    column = f"return {rows}.map(row => row.cells[arguments[0]].innerText)"
    heads = browser.execute_script("return [...document.querySelectorAll('th.sorts')].map(each => each.innerText)")
    place = heads.index("value")
    script = "document.querySelectorAll('th.sorts')[arguments[0]].click()"
    values = []
    for _ in range(2):
        browser.execute_script(script, place)
        values.append([float(value) for value in browser.execute_script(column, place) if value])

    assert len(values[0]) == result.trials["value"].notna().sum()
    assert values == [sorted(values[0]), sorted(values[0], reverse=True)]


def test_the_compare_page_shows_the_objective_over_the_logarithm_of_the_rate(
    browser: Any, server: MlflowServer, parent: Any, result: Any
) -> None:
    finished = [run.info.run_id for run in runs(server, "trial") if run.info.status == "FINISHED"]
    page = Page(
        browser, server,
        f"compare-runs?runs={json.dumps(finished)}&experiments={json.dumps([parent.info.experiment_id])}",
    )  # fmt: skip
    page.wait_for(f"Comparing {len(finished)} Runs", "Parallel Coordinates")
    page.close_assistant()
    page.click("//*[@data-testid='clear-button']")
    page.choose("Parameters:", "log10_lr")
    page.choose("Metrics:", "objective")
    axes = "return [...document.querySelectorAll('.parcoords svg text, svg .axis-title')].map(each => each.textContent)"
    page.until(lambda: {"log10_lr", "objective"} <= set(browser.execute_script(axes)), "the axes")
    page.save("mlflow_compare")

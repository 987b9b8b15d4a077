"""What a person sees in MLflow's own pages: a real server, a real browser."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import opttune
from opttune.tracking import Tracking
from tests.search_modules import Classifier, loaders
from tests.search_support import make_database, make_space
from tests.tracking.conftest import MlflowServer, free_port

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
DRIVER = shutil.which("chromedriver") or ""
SECONDS = 90
PICTURES = Path(__file__).parents[2] / "build" / "screenshots"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver (Debian: chromium, chromium-driver)"
    ),
]

SPACE = """
description: three optimizers, one of which diverges
optimizer:
  adamw:
    lr: {low: 1e-4, high: 1e-1, log: true, prior: 1e-2, source: test}
    weight_decay: {choices: [0.0, 0.1], source: test}
  muon:
    lr: {low: 1e-3, high: 1e-1, log: true, prior: 2e-2, source: test}
  sgd:
    lr: {choices: [1e-2, 1e3], source: test}
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
        patch.setenv("MLFLOW_EXPERIMENT_NAME", "points")
        return opttune.search(
            Classifier, loaders, space=make_space(SPACE), max_steps=100, budget=9, study="points-classifier",
            tracking_uri=server.uri, out_dir=folder / "out", progress=False, tracking=Tracking(report=True),
        )  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}", "--window-size=1600,1100", "--force-color-profile=srgb",
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
        browser.get("about:blank")
        browser.get(f"{server.uri}/#/{place}")

    def text(self) -> str:
        # not what is hidden, and what stands in shadow roots and frames neither
        return str(self.browser.execute_script("return document.body ? document.body.innerText : ''"))

    def wait_for(self, *words: str) -> str:
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            text = self.text()
            if all(word in text for word in words):
                return text
            time.sleep(0.3)
        missing = [word for word in words if word not in self.text()]
        self.save("failed")
        raise AssertionError(f"{missing} did not appear in: {self.text()[:3000]}")

    def click(self, xpath: str) -> None:
        from selenium.webdriver.common.by import By

        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            for element in self.browser.find_elements(By.XPATH, xpath):
                if element.is_displayed():
                    self.browser.execute_script("arguments[0].click()", element)
                    return
            time.sleep(0.3)
        self.save("failed")
        raise AssertionError(f"nothing to click: {xpath}")

    def save(self, name: str) -> Path:
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.browser.save_screenshot(str(PICTURES / f"{name}.png"))
        return PICTURES / f"{name}.png"


def runs(server: MlflowServer, role: str) -> list[Any]:
    client = server.client()
    experiment = client.get_experiment_by_name("points")
    return list(client.search_runs([experiment.experiment_id], f"tags.`opttune.role` = '{role}'"))


def test_the_experiment_shows_the_search_with_its_trials_under_it_and_their_states(
    browser: Any, server: MlflowServer, result: Any
) -> None:
    (parent,) = runs(server, "study")
    children = runs(server, "trial")
    columns = "&".join(["selectedColumns=tags.%60opttune.state%60,params.%60lr%60,metrics.%60objective%60"])
    page = Page(browser, server, f"experiments/{parent.info.experiment_id}/runs?viewStateShareKey=&{columns}")
    page.wait_for("points-classifier")
    page.click("//button[@aria-label='Expand row' or contains(@aria-label, 'xpand')]"
               " | //*[contains(@class, 'expander')]//*[name()='svg']/..")  # fmt: skip
    text = page.wait_for(*(run.info.run_name for run in children[:3]))
    page.save("runs")
    assert sum(run.info.run_name in text for run in children) >= 3

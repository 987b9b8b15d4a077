"""Take the pictures of the search's run and of the list of runs in MLflow, for the search that README shows.

python docs/screenshots.py     # needs chromium and chromedriver
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from PIL import Image
from selenium import webdriver
from selenium.webdriver import ActionChains

from tests.support.searches import make_database
from tests.unit.tracking.conftest import MlflowServer, free_port
from tests.unit.tracking.test_browser import CHROMIUM, DRIVER, PICTURES, Page

IMAGES = ROOT / "docs" / "images"
SEARCH = "search examples/digits.py:DigitsClassifier examples/digits.py:digits_loaders --max-steps 300 --budget 12"
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage")


def search(folder: Path) -> None:
    """Make README's search in a folder."""
    make_database(folder)
    (folder / "examples").symlink_to(ROOT / "examples")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "opttune", *SEARCH.split()], cwd=folder, env=environment, check=True)


def open_browser(folder: Path) -> Any:
    """Start a browser whose pages are 1,600 pixels wide."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, "--window-size=1600,1100", f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))


def take(browser: Any, server: MlflowServer) -> None:
    """Take the two pictures: the search's run, and the list of runs."""
    experiment = server.client().get_experiment_by_name("opttune").experiment_id
    (parent,) = server.client().search_runs([experiment], "tags.`opttune.role` = 'study'")
    page = Page(browser, server, f"experiments/{experiment}/runs/{parent.info.run_id}")
    page.wait_for("Description", "Child runs")
    page.close_assistant()
    page.click("//*[normalize-space()='Show more']")
    page.wait_for("Trials")
    page.save("mlflow")

    page = Page(browser, server, f"experiments/{experiment}/runs")
    page.wait_for(parent.info.run_name)
    page.close_assistant()
    page.click("//div[@role='gridcell']//button[contains(@data-component-id,'runnamecellrenderer')]")
    page.click("//button[normalize-space()='Columns']")
    page.until(lambda: page.find("//input[@placeholder='Search columns']"), "columns").send_keys("opttune.state")
    page.click("//span[@title='opttune.state']/preceding-sibling::span[contains(@class,'tree-checkbox')]")
    ActionChains(browser).move_by_offset(600, 30).click().perform()
    page.wait_for("opttune.state", "complete", "#1 ")
    page.save("mlflow_runs")


def main() -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        search(folder)
        server, browser = MlflowServer(folder / "mlflow.db", free_port()), open_browser(folder)
        try:
            server.start()
            take(browser, server)
        finally:
            browser.quit()
            server.kill()
    for picture in ("mlflow", "mlflow_runs"):
        # 256 colours are enough for text, and a third of the size
        with Image.open(PICTURES / f"{picture}.png") as image:
            image.convert("RGB").quantize(256).save(IMAGES / f"{picture}.png", optimize=True)


if __name__ == "__main__":
    main()

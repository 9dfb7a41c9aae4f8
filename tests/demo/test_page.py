"""The demo's page in a real browser, without a window: what a person does and sees."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
from ports import free_port
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from resto_wsgi.demo.app import STATIC

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
LIMIT = 256 * 1024 * 1024

# Notes every value of each progress bar, so that a test does not have to be quick enough to see one.
WATCH = """
window.seen = {};
new MutationObserver((changes) => changes.forEach(({target}) => {
  const name = target.getAttribute("aria-label");
  (window.seen[name] = window.seen[name] || []).push(Number(target.getAttribute("aria-valuenow")));
})).observe(document.getElementById("list"), {subtree: true, attributeFilter: ["aria-valuenow"]});
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a demo that runs as `resto demo` runs it."""
    command = [sys.executable, "-c", "from resto_wsgi.cli import main; main()", "demo", "--port", str(free_port())]
    env = {**os.environ, "TMPDIR": str(tmp_path_factory.mktemp("demo"))}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield re.findall(r"http://\S+", process.stdout.readline())[0]
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)


@pytest.fixture(scope="module")
def chromium() -> Iterator[webdriver.Chrome]:
    """One browser for all tests; without one they fail in CI and are skipped elsewhere."""
    if not (BROWSER and DRIVER):
        (pytest.fail if os.environ.get("CI") else pytest.skip)("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for option in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--window-size=1280,800",
    ):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: webdriver.Chrome, page: str) -> Iterator[webdriver.Chrome]:
    """The browser with the page open; the page may not have asked for anything that its policy forbids."""
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    chromium.get(page)
    chromium.get_log("browser")
    yield chromium
    assert not [entry for entry in chromium.get_log("browser") if "Content Security Policy" in entry["message"]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of several kinds, by name."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "Grüße aus Łódź.txt").write_text("Grüße\n", "utf-8")
    (folder / "empty.txt").touch()
    (folder / "noise.bin").write_bytes(os.urandom(24 * 1024 * 1024))
    made = {path.name: path for path in sorted(folder.iterdir())}
    return {**made, "lake.jpg": STATIC / "lake.jpg", "leaflet.pdf": STATIC / "leaflet.pdf"}


def pick(browser: webdriver.Chrome, *paths: Path) -> None:
    """Choose files as a person does in the dialogue of the browser."""
    browser.find_element(By.ID, "files").send_keys("\n".join(map(str, paths)))


def settled(browser: webdriver.Chrome, count: int, seconds: float = 60) -> dict[str, WebElement]:
    """Wait until that many cards say how it ended, and return them by file name."""
    done = "[data-state=done], [data-state=refused]"
    WebDriverWait(browser, seconds).until(lambda it: len(it.find_elements(By.CSS_SELECTOR, done)) == count)
    cards = browser.find_elements(By.CSS_SELECTOR, ".card")
    # Not ``text``, which is empty as long as the card has not risen into sight.
    return {card.find_element(By.CSS_SELECTOR, ".name").get_attribute("textContent") or "": card for card in cards}


def links(card: WebElement) -> list[str]:
    """The addresses of the chips of a card whose file was saved."""
    assert card.get_attribute("data-state") == "done", card.text
    return [chip.get_attribute("href") or "" for chip in card.find_elements(By.CSS_SELECTOR, ".chip")]


def fetch(url: str) -> tuple[int, bytes]:
    """Read what is at the address."""
    answer = urllib3.request("GET", url, retries=False, timeout=10)
    return answer.status, answer.data


def test_each_file_ends_with_its_hash_and_a_link_to_every_copy(
    browser: webdriver.Chrome, files: dict[str, Path]
) -> None:
    """Several files chosen at once: progress is shown for each, and each chip answers with the same bytes."""
    browser.execute_script(WATCH)
    browser.set_network_conditions(latency=0, throughput=32 * 1024**2)  # bytes per second: else it is over at once
    try:
        pick(browser, *files.values())
        cards = settled(browser, len(files))
    finally:
        browser.delete_network_conditions()
    assert set(cards) == set(files)
    for name, path in files.items():
        card, content = cards[name], path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        assert card.find_element(By.CSS_SELECTOR, ".hash code").get_attribute("title") == sha256
        assert len(set(links(card))) == 3
        assert all(fetch(url) == (200, content) for url in links(card))
    seen = browser.execute_script("return window.seen")
    assert all(seen[f"Upload of {name}"][-1] == 100 for name in files)
    assert any(0 < percent < 100 for percent in seen["Upload of noise.bin"])
    assert browser.find_element(By.ID, "summary").text == f"{len(files)} of {len(files)} saved"


def test_a_picture_shows_itself_and_others_an_icon(browser: webdriver.Chrome, files: dict[str, Path]) -> None:
    """The thumbnail is in the end the first media server's copy; a PDF has the icon of a PDF."""
    pick(browser, files["lake.jpg"], files["leaflet.pdf"])
    cards = settled(browser, 2)
    picture = cards["lake.jpg"]
    first = links(picture)[0]
    WebDriverWait(browser, 10).until(
        lambda _: picture.find_element(By.CSS_SELECTOR, ".thumb img").get_attribute("src") == first
    )
    assert browser.execute_script("return arguments[0].querySelector('.thumb img').naturalWidth", picture) > 0
    assert cards["leaflet.pdf"].find_element(By.CSS_SELECTOR, ".thumb use").get_attribute("href") is not None
    assert 'href="#i-pdf"' in (cards["leaflet.pdf"].get_attribute("innerHTML") or "")


def test_a_refused_upload_shows_why(browser: webdriver.Chrome, tmp_path: Path, files: dict[str, Path]) -> None:
    """A file over the limit shows the server's reason, has no chip, and does not keep the others from being saved."""
    big = tmp_path / "big.mov"
    with big.open("wb") as made:
        made.truncate(LIMIT + 1)
    pick(browser, big, files["leaflet.pdf"])
    cards = settled(browser, 2, 120)
    reason = cards["big.mov"].find_element(By.CSS_SELECTOR, ".reason")
    assert reason.is_displayed()
    assert re.search(r"256 MiB|268435456|too large|larger", reason.text)
    assert cards["big.mov"].find_elements(By.CSS_SELECTOR, ".chip") == []
    assert len(links(cards["leaflet.pdf"])) == 3
    assert browser.find_element(By.ID, "summary").text == "1 of 2 saved, 1 not"


def test_files_can_be_dropped(browser: webdriver.Chrome) -> None:
    """Files dropped on the page are uploaded as chosen ones are."""
    browser.execute_script(
        """const data = new DataTransfer();
        data.items.add(new File(["one"], "one.txt", {type: "text/plain"}));
        data.items.add(new File(["two"], "two.txt", {type: "text/plain"}));
        for (const type of ["dragenter", "dragover", "drop"]) document.getElementById("zone").dispatchEvent(
          new DragEvent(type, {dataTransfer: data, bubbles: true, cancelable: true}));"""
    )
    cards = settled(browser, 2)
    assert {name: fetch(links(card)[2]) for name, card in cards.items()} == {
        "one.txt": (200, b"one"),
        "two.txt": (200, b"two"),
    }


def test_samples_are_at_hand_by_keyboard(browser: webdriver.Chrome) -> None:
    """The button below the zone sends three samples, and Enter is enough to press it."""
    browser.find_element(By.ID, "samples").send_keys(Keys.ENTER)
    cards = settled(browser, 3)
    assert all(len(links(card)) == 3 for card in cards.values())


def test_the_form_works_without_script(browser: webdriver.Chrome, files: dict[str, Path]) -> None:
    """A plain POST of several files gives a page with the same cards."""
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.refresh()
    pick(browser, files["lake.jpg"], files["Grüße aus Łódź.txt"])
    browser.find_element(By.CSS_SELECTOR, ".submit").click()
    cards = settled(browser, 2)
    assert set(cards) == {"lake.jpg", "Grüße aus Łódź.txt"}
    assert all(fetch(url)[1] == files[name].read_bytes() for name, card in cards.items() for url in links(card))


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_sticks_out_at_the_side(browser: webdriver.Chrome, files: dict[str, Path], width: int) -> None:
    """On a laptop and on a phone, the page with its cards is no wider than the screen."""
    metrics = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    pick(browser, files["lake.jpg"], files["Grüße aus Łódź.txt"])
    settled(browser, 2)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    right = "return Math.max(...[...document.querySelectorAll('.card *')].map((e) => e.getBoundingClientRect().right))"
    assert browser.execute_script(right) <= width

"""The page at `/`, in a real browser with a real server; skipped without Chromium and its driver."""

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from conftest import encoded
from fastapi import Request
from fastapi.responses import JSONResponse
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from lib.core.files import ROOT
from lib.serving.app import create_app

NOISE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
IMAGES = {
    "noise.png": encoded(NOISE, "PNG"),
    "dark.png": encoded(NOISE // 8, "PNG"),
    "large.jpg": encoded(np.tile(NOISE, (8, 12, 1))),
    "broken.jpg": encoded(np.tile(NOISE, (8, 8, 1)))[:2000],
}
pytestmark = pytest.mark.slow
WORDS = {"FAKE": "AI-generated", "REAL": "Camera image", "UNSURE": "Unsure"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(url: str) -> None:
    for _ in range(300):
        try:
            return urllib.request.urlopen(f"{url}/health").close()
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"nothing answers at {url}")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Run the service in a process and on a port of its own."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", "lib.serving.app:create_app", "--port", str(port)]
    process = subprocess.Popen([*command, "--log-level", "warning"], cwd=ROOT)
    wait_for(f"http://127.0.0.1:{port}")
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(10)


class Fallible:
    """Run the service in this process: it can be stopped, started again, and made busy for some requests."""

    def __init__(self) -> None:
        self.port, self.busy = free_port(), 0
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        app = create_app()

        @app.middleware("http")
        async def full(request: Request, call_next: Callable[[Request], Any]) -> Any:
            if request.method == "POST" and self.busy:
                self.busy -= 1
                return JSONResponse({"detail": "the queue is full"}, 503, {"Retry-After": "1"})
            return await call_next(request)

        self.server = uvicorn.Server(uvicorn.Config(app, port=self.port, log_level="error"))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        wait_for(self.url)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)


@pytest.fixture
def fallible() -> Iterator[Fallible]:
    server = Fallible()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def chrome() -> Iterator[webdriver.Chrome]:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if not (program and driver):
        pytest.skip("no Chromium with its driver on the path: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    options.add_argument("--headless=new")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # which Chromium refuses to set up for root
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory() as folder:  # where Chromium leaves its socket behind
        browser = webdriver.Chrome(options, Service(executable_path=driver, env={**os.environ, "TMPDIR": folder}))
        browser.execute_cdp_cmd("Page.enable", {})
        yield browser
        browser.quit()


class Page:
    """Use the open page as a person does."""

    def __init__(self, chrome: webdriver.Chrome, url: str, folder: Path) -> None:
        self.chrome, self.folder = chrome, folder
        self.events()  # those of the test before
        chrome.get(url)

    def files(self, *names: str) -> list[str]:
        for name in names:
            (self.folder / name).write_bytes(IMAGES[name])
        return [str(self.folder / name) for name in names]

    def choose(self, *names: str) -> list[WebElement]:
        self.chrome.find_element(By.ID, "files").send_keys("\n".join(self.files(*names)))
        return self.cards(len(names))

    def give(self, kind: str, *names: str) -> list[WebElement]:
        """Dispatch the event of a drop or a paste, with files."""
        files = [[name, base64.b64encode(IMAGES[name]).decode()] for name in names]
        self.chrome.execute_script(
            """const data = new DataTransfer();
            for (const [name, content] of arguments[1])
                data.items.add(new File([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))], name));
            const options = { bubbles: true, cancelable: true };
            document.body.dispatchEvent(arguments[0] === "paste"
                ? new ClipboardEvent("paste", { ...options, clipboardData: data })
                : new DragEvent("drop", { ...options, dataTransfer: data }));""",
            kind,
            files,
        )
        return self.cards(len(names))

    def cards(self, count: int) -> list[WebElement]:
        """Wait until there are `count` cards and none is busy; return them."""
        script = "return [document.querySelectorAll('.card').length, document.querySelectorAll('.busy').length]"
        self.until(lambda: self.chrome.execute_script(script) == [count, 0])
        return self.chrome.find_elements(By.CLASS_NAME, "card")

    def until(self, holds: Callable[[], Any]) -> Any:
        return WebDriverWait(self.chrome, 20, 0.05).until(lambda _: holds())

    def log(self) -> str:
        return self.chrome.find_element(By.ID, "live").get_attribute("textContent")

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """Return what the browser has reported since the last call: (name, details)."""
        entries = [json.loads(entry["message"])["message"] for entry in self.chrome.get_log("performance")]
        return [(entry["method"], entry["params"]) for entry in entries]


@pytest.fixture
def page(chrome: webdriver.Chrome, url: str, tmp_path: Path) -> Iterator[Page]:
    chrome.get_log("browser")
    yield Page(chrome, url, tmp_path)
    chrome.execute_cdp_cmd("Page.setInterceptFileChooserDialog", {"enabled": False})
    chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    errors = [entry["message"] for entry in chrome.get_log("browser")]
    assert [text for text in errors if "status of 400" not in text] == [], "Chromium logs refusals, and nothing else"


def part(card: WebElement, name: str) -> str:
    return card.find_element(By.CLASS_NAME, name).text


def test_a_chosen_image_gets_the_prediction_of_the_http_interface(page: Page, url: str) -> None:
    cards = page.choose("noise.png", "dark.png", "large.jpg")
    for name, card in zip(("noise.png", "dark.png", "large.jpg"), cards, strict=True):
        answer = predict(url, name)
        assert part(card, "prediction") == WORDS[answer["prediction"]]
        shown = part(card, "p-fake").removeprefix("AI-generated ").removesuffix(" %").strip("<> ")
        assert float(shown) / 100 == pytest.approx(answer["calibrated"]["FAKE"], abs=0.0011)
        assert card.find_element(By.CLASS_NAME, "view").get_attribute("src") == answer["explanation"]["input_image"]
        assert f"{name}: {WORDS[answer['prediction']]}" in page.log()
        red, _, blue, strength = np.reshape(page.chrome.execute_script(COLOURS, card), (-1, 4)).T
        saliency = np.ravel(answer["explanation"]["saliency"])
        assert np.corrcoef(strength, np.abs(saliency))[0, 1] > 0.99, "the stronger the colour, the larger the change"
        visible = strength > 20
        assert ((red > blue) == (saliency > 0))[visible].all(), "orange for FAKE, blue for REAL"
    assert "Do not rely on this prediction: the image is 384×256" in part(cards[2], "alert")
    assert not cards[0].find_element(By.CLASS_NAME, "alert").is_displayed()
    assert page.chrome.find_element(By.ID, "data").text == "CIFAKE"


COLOURS = """
return [...arguments[0].querySelector("canvas").getContext("2d").getImageData(0, 0, 32, 32).data];
"""


def predict(url: str, name: str) -> dict[str, Any]:
    """Send a request to the service without the page."""
    edge = b"x" * 20
    head = b'--%b\r\nContent-Disposition: form-data; name="data"; filename="x"\r\n\r\n' % edge
    body = head + IMAGES[name] + b"\r\n--%b--\r\n" % edge
    kind = {"Content-Type": f"multipart/form-data; boundary={edge.decode()}"}
    with urllib.request.urlopen(
        urllib.request.Request(f"{url}/predict/?unsure=true&explain=true", body, kind)
    ) as reply:
        return json.load(reply)


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_dropped_and_pasted_images(page: Page, kind: str) -> None:
    cards = page.give(kind, "noise.png", "dark.png")
    assert [part(card, "name") for card in cards] == ["noise.png, 32×32", "dark.png, 32×32"]
    assert all(part(card, "prediction") in WORDS.values() for card in cards)
    page.chrome.find_element(By.ID, "clear").click()
    page.give(kind)
    assert "no" in page.chrome.find_element(By.ID, "bar").text, "it tells that there was no image"


def test_the_keyboard_suffices(page: Page) -> None:
    chrome = page.chrome
    chrome.execute_cdp_cmd("Page.setInterceptFileChooserDialog", {"enabled": True})
    focused = lambda: chrome.switch_to.active_element  # noqa: E731
    press = lambda *keys: webdriver.ActionChains(chrome).send_keys(*keys).perform()  # noqa: E731
    press(Keys.TAB, Keys.TAB)
    assert focused().get_attribute("id") == "files"
    drop = chrome.find_element(By.ID, "drop")
    assert drop.value_of_css_property("outline-style") == "solid", "the focus shows"
    press(Keys.ENTER)
    opened = page.until(lambda: [event for name, event in page.events() if name == "Page.fileChooserOpened"])
    files = {"files": page.files("noise.png"), "backendNodeId": opened[0]["backendNodeId"]}
    chrome.execute_cdp_cmd("DOM.setFileInputFiles", files)
    page.cards(1)
    press(Keys.TAB)
    assert focused().text == "Remove all"
    press(Keys.ENTER)
    page.cards(0)
    assert focused().get_attribute("id") == "files"


def test_a_file_that_is_no_image_gets_the_sentence_and_the_others_their_predictions(page: Page) -> None:
    broken, good = page.choose("broken.jpg", "noise.png")
    assert part(broken, "prediction") == "No prediction"
    assert part(broken, "alert") == "The image is damaged: send a whole one."
    assert not broken.find_element(By.TAG_NAME, "button").is_displayed(), "another try would end the same"
    assert not broken.find_element(By.CLASS_NAME, "views").is_displayed()
    assert part(good, "prediction") in WORDS.values()


def test_nothing_is_loaded_from_elsewhere(page: Page, url: str) -> None:
    page.choose("noise.png", "large.jpg")
    requested = [event["request"]["url"] for name, event in page.events() if name == "Network.requestWillBeSent"]
    assert f"{url}/health" in requested
    assert [place for place in requested if not place.startswith((f"{url}/", "data:", f"blob:{url}/"))] == []


def test_the_api_documentation_loads_nothing_from_elsewhere(page: Page, url: str) -> None:
    page.chrome.get(f"{url}/docs")
    page.until(lambda: page.chrome.find_elements(By.CLASS_NAME, "opblock"))
    shown = [it.text for it in page.chrome.find_elements(By.CLASS_NAME, "opblock-summary-path")]
    assert [path.replace("\u200b", "") for path in shown] == ["/predict/", "/predict/batch", "/health", "/metrics"]
    requested = [event["request"]["url"] for name, event in page.events() if name == "Network.requestWillBeSent"]
    assert [place for place in requested if not place.startswith((f"{url}/", "data:"))] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it_with_enough_contrast(page: Page, scheme: str) -> None:
    chrome = page.chrome
    phone = {"width": 320, "height": 640, "deviceScaleFactor": 2, "mobile": True}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
    page.choose("noise.png", "large.jpg", "broken.jpg")
    assert chrome.execute_script("return document.documentElement.scrollWidth") == 320, "nothing to scroll sideways"
    contrast = chrome.execute_script(CONTRAST)
    assert len(contrast) > 30
    assert {text: ratio for text, ratio in contrast if ratio < 4.5} == {}, "WCAG 2.2, 1.4.3"


# The contrast of each visible text with the nearest opaque background, by the formula of WCAG 2.2.
CONTRAST = """
const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
const luminance = (colour) => channels(colour).slice(0, 3)
    .map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const background = (element) => {
    const colour = getComputedStyle(element).backgroundColor;
    return channels(colour)[3] === 0 ? background(element.parentElement) : colour;
};
return [...document.body.querySelectorAll("*")]
    .filter((e) => e.checkVisibility() && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
    .map((e) => {
        const [dark, light] = [getComputedStyle(e).color, background(e)].map(luminance).sort((a, b) => a - b);
        return [e.textContent.trim(), (light + 0.05) / (dark + 0.05)];
    });
"""


def test_a_busy_service_is_retried_automatically_and_then_by_hand(
    chrome: webdriver.Chrome, fallible: Fallible, tmp_path: Path
) -> None:
    page = Page(chrome, fallible.url, tmp_path)
    fallible.busy = 1
    (card,) = page.choose("noise.png")
    assert part(card, "prediction") in WORDS.values()
    assert not card.find_element(By.CLASS_NAME, "alert").is_displayed()
    page.chrome.find_element(By.ID, "clear").click()

    fallible.busy = 2
    (card,) = page.choose("noise.png")
    assert part(card, "alert") == "The queue is full."
    card.find_element(By.TAG_NAME, "button").click()
    page.cards(1)
    assert part(card, "prediction") in WORDS.values()


def test_a_service_that_is_down_is_reported_and_can_come_back(
    chrome: webdriver.Chrome, fallible: Fallible, tmp_path: Path
) -> None:
    page = Page(chrome, fallible.url, tmp_path)
    page.until(lambda: chrome.find_element(By.ID, "data").text == "CIFAKE")
    fallible.stop()
    (card,) = page.choose("noise.png")
    assert part(card, "alert") == "The service does not answer."
    assert "noise.png: no prediction. The service does not answer." in page.log()
    fallible.start()
    card.find_element(By.TAG_NAME, "button").click()
    page.cards(1)
    assert part(card, "prediction") in WORDS.values()

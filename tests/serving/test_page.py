"""The page at `/`, in a real browser with a real server; skipped without Chromium and its driver."""

import base64
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from conftest import encoded
from fastapi import Request
from fastapi.responses import JSONResponse
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait
from sklearn.datasets import load_sample_image

from lib.core.files import ROOT
from lib.inference.limits import limits
from lib.inference.predictor import default_model_path
from lib.serving.app import create_app

NOISE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
PHOTO = np.asarray(Image.fromarray(load_sample_image("flower.jpg")).resize((32, 32)))
IMAGES = {
    "photo.png": encoded(PHOTO, "PNG"),
    "dark.png": encoded(NOISE // 8, "PNG"),
    "large.jpg": encoded(np.tile(NOISE, (8, 12, 1))),
    "broken.jpg": encoded(np.tile(NOISE, (8, 8, 1)))[:2000],
    "whole.bmp": encoded(np.tile(NOISE, (32, 32, 1)), "BMP"),  # 3 MB, more than the buffers of a connection hold
    "huge.bmp": bytes(20 * 2**20 + 1),
    **{f"{i}.png": encoded(NOISE // 4 + i % 128, "PNG") for i in range(300)},
}
pytestmark = pytest.mark.slow
WORDS = {"FAKE": "Like CIFAKE’s FAKE", "REAL": "Like CIFAKE’s REAL", "UNSURE": "Unsure"}


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
        own = {"TMPDIR": folder, "XDG_CONFIG_HOME": folder}
        browser = webdriver.Chrome(options, Service(executable_path=driver, env={**os.environ, **own}))
        browser.execute_cdp_cmd("Page.enable", {})
        yield browser
        browser.quit()


@pytest.fixture
def hurry(chrome: webdriver.Chrome) -> Iterator[None]:
    """Make the page's seconds pass ten times as fast, and note how long it waits."""
    added = chrome.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": HURRY})
    yield
    chrome.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


HURRY = """
const [later, timeout] = [window.setTimeout, AbortSignal.timeout];
window.waits = [];
window.setTimeout = (call, delay) => { window.waits.push(delay / 1000); return later(call, delay / 10); };
AbortSignal.timeout = (delay) => timeout.call(AbortSignal, delay / 10);
"""


class Page:
    """Use the open page as a person does."""

    def __init__(self, chrome: webdriver.Chrome, url: str, folder: Path) -> None:
        self.chrome, self.folder = chrome, folder
        self.events()  # those of the test before
        chrome.get(url)

    def files(self, *names: str) -> list[str]:
        for name in names:
            if not (self.folder / name).exists():  # Chromium does not read a chosen file that was written again
                (self.folder / name).write_bytes(IMAGES[name])
        return [str(self.folder / name) for name in names]

    def put(self, *names: str) -> None:
        """Choose files, and do not wait."""
        self.chrome.find_element(By.ID, "files").send_keys("\n".join(self.files(*names)))

    def choose(self, *names: str) -> list[WebElement]:
        self.put(*names)
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
        return WebDriverWait(self.chrome, 30, 0.05).until(lambda _: holds())

    def bar(self) -> str:
        return self.chrome.find_element(By.ID, "progress-text").text

    def click(self, name: str) -> None:
        self.chrome.find_element(By.ID, name).click()

    def shows(self, name: str) -> bool:
        return self.chrome.find_element(By.ID, name).is_displayed()

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
    cards = page.choose("photo.png", "dark.png", "large.jpg")
    for name, card in zip(("photo.png", "dark.png", "large.jpg"), cards, strict=True):
        answer = predict(url, name)
        assert part(card, "prediction") == WORDS[answer["prediction"]]
        shown = part(card, "p-fake").removeprefix("FAKE ").removesuffix(" %").strip("<> ")
        assert float(shown) / 100 == pytest.approx(answer["calibrated"]["FAKE"], abs=0.0011)
        assert card.find_element(By.CLASS_NAME, "view").get_attribute("src") == answer["explanation"]["input_image"]
        assert f"{name}: {WORDS[answer['prediction']]}" in page.log()
        red, _, blue, strength = np.reshape(page.chrome.execute_script(COLOURS, card), (-1, 4)).T
        saliency = np.ravel(answer["explanation"]["saliency"])
        assert np.corrcoef(strength, np.abs(saliency))[0, 1] > 0.99, "the stronger the colour, the larger the change"
        visible = strength > 20
        assert ((red > blue) == (saliency > 0))[visible].all(), "orange for FAKE, blue for REAL"
    assert part(cards[1], "alert") == (
        "Do not rely on this prediction: the image is far from the training data, so the prediction has no basis."
    )
    assert "Do not rely on this prediction: the image is 384×256" in part(cards[2], "alert")
    assert not cards[0].find_element(By.CLASS_NAME, "alert").is_displayed()
    assert page.chrome.find_element(By.ID, "data").text == "CIFAKE"
    assert page.chrome.find_element(By.ID, "outside").text == limits(default_model_path())


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
    cards = page.give(kind, "photo.png", "dark.png")
    assert [part(card, "name") for card in cards] == ["photo.png, 32×32", "dark.png, 32×32"]
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
    files = {"files": page.files("photo.png"), "backendNodeId": opened[0]["backendNodeId"]}
    chrome.execute_cdp_cmd("DOM.setFileInputFiles", files)
    page.cards(1)
    press(Keys.TAB)
    assert focused().text == "Remove all"
    press(Keys.ENTER)
    page.cards(0)
    assert focused().get_attribute("id") == "files"


def test_a_file_that_is_no_image_gets_the_sentence_and_the_others_their_predictions(page: Page) -> None:
    broken, good = page.choose("broken.jpg", "photo.png")
    assert part(broken, "prediction") == "No prediction"
    assert part(broken, "alert") == "The image is damaged: send a whole one."
    assert not broken.find_element(By.TAG_NAME, "button").is_displayed(), "another try would end the same"
    assert not broken.find_element(By.CLASS_NAME, "views").is_displayed()
    assert part(good, "prediction") in WORDS.values()


def test_nothing_is_loaded_from_elsewhere(page: Page, url: str) -> None:
    page.choose("photo.png", "large.jpg")
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
    page.choose("photo.png", "large.jpg", "broken.jpg")
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


@pytest.mark.usefixtures("hurry")
def test_a_busy_service_is_retried_automatically_and_then_by_hand(
    chrome: webdriver.Chrome, fallible: Fallible, tmp_path: Path
) -> None:
    page = Page(chrome, fallible.url, tmp_path)
    fallible.busy = 1
    (card,) = page.choose("photo.png")
    assert part(card, "prediction") in WORDS.values()
    assert not card.find_element(By.CLASS_NAME, "alert").is_displayed()
    page.chrome.find_element(By.ID, "clear").click()

    fallible.busy = 6
    (card,) = page.choose("photo.png")
    assert part(card, "alert") == "The queue is full."
    card.find_element(By.TAG_NAME, "button").click()
    page.cards(1)
    assert part(card, "prediction") in WORDS.values()


@pytest.mark.usefixtures("hurry")
def test_a_service_that_is_down_is_reported_and_can_come_back(
    chrome: webdriver.Chrome, fallible: Fallible, tmp_path: Path
) -> None:
    page = Page(chrome, fallible.url, tmp_path)
    page.until(lambda: chrome.find_element(By.ID, "data").text == "CIFAKE")
    fallible.stop()
    (card,) = page.choose("photo.png")
    assert part(card, "alert") == "The service does not answer."
    assert "photo.png: no prediction. The service does not answer." in page.log()
    fallible.start()
    card.find_element(By.TAG_NAME, "button").click()
    page.cards(1)
    assert part(card, "prediction") in WORDS.values()


class Network(ThreadingHTTPServer):
    """Stand between the browser and the service at `url`, and do to each prediction what `faults` says, in turn."""

    daemon_threads = True

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), Hop)
        self.service, self.url = url, f"http://127.0.0.1:{self.server_port}"
        self.faults, self.health = list[str](), ""
        self.seen: list[list[str]] = []  # the files of each prediction
        self.now = self.most = 0  # predictions at the same time
        self.lock, self.silent = threading.Lock(), threading.Event()
        threading.Thread(target=self.serve_forever, args=[0.05], daemon=True).start()

    def handle_error(self, *_: object) -> None:
        """Say nothing about what a browser has given up."""


class Hop(BaseHTTPRequestHandler):
    """Pass one request on; its connection ends with it."""

    server: Network

    def do_GET(self) -> None:
        self.answer(self.server.health if self.path == "/health" else "")

    def do_POST(self) -> None:
        network = self.server
        with network.lock:
            fault = network.faults.pop(0) if network.faults else ""
            network.now += 1
            network.most = max(network.most, network.now)
        self.answer(fault)

    def answer(self, fault: str = "") -> None:
        size = int(self.headers.get("Content-Length", 0))
        if fault == "cut the upload":
            self.rfile.read(size // 2)
            self.reset()
            return
        body = self.rfile.read(size)
        if body:
            self.server.seen.append(re.findall('filename="(.*?)"', body.decode("latin-1")))
        if fault == "silence":
            self.server.silent.wait()
        elif fault.startswith("page"):
            self.reply(int(fault.removeprefix("page ")), b"<!doctype html><p>Sorry", "text/html")
        elif fault.startswith("JSON"):
            self.reply(200, fault.removeprefix("JSON ").encode())
        else:
            headers = {name: value for name, value in self.headers.items() if name == "Content-Type"}
            request = urllib.request.Request(self.server.service + self.path, body or None, headers)
            try:
                with urllib.request.urlopen(request) as reply:
                    self.reply(reply.status, reply.read(), reply.headers["Content-Type"], fault == "cut the response")
            except urllib.error.HTTPError as error:
                self.reply(error.code, error.read())

    def reply(self, status: int, content: bytes, kind: str = "application/json", cut: bool = False) -> None:
        if self.command == "POST":
            with self.server.lock:
                self.server.now -= 1
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            time.sleep(0.1)  # the browser has the head and half of the content
            self.reset()

    def reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def network(url: str) -> Iterator[Network]:
    network = Network(url)
    yield network
    network.silent.set()
    network.shutdown()
    network.server_close()


@pytest.fixture
def relayed(chrome: webdriver.Chrome, network: Network, tmp_path: Path) -> Page:
    """Open the page over a network that fails where a test says so."""
    return Page(chrome, network.url, tmp_path)


def all_classified(cards: list[WebElement]) -> bool:
    return {part(card, "prediction") for card in cards} <= set(WORDS.values())


def test_300_files_are_sent_one_by_one_while_the_page_can_be_used(relayed: Page, network: Network, url: str) -> None:
    relayed.chrome.execute_script(LONGEST_BLOCK)
    # The first two, in either order, get the service's own answers: 300 saliency maps take a minute.
    network.faults = ["", "", *[f"JSON {json.dumps(predict(url, 'photo.png'))}"] * 300]
    names = [f"{i}.png" for i in range(300)]
    relayed.put("broken.jpg", "huge.bmp", *names)
    relayed.until(lambda: len(network.seen) > 5)
    relayed.put("photo.png")
    cards = relayed.cards(303)
    assert relayed.chrome.execute_script("return window.longest") < 2000, "milliseconds in which nothing else could run"
    assert relayed.bar() == "303 of 303 done, 2 without a prediction."
    broken, huge = (relayed.chrome.find_element(By.CSS_SELECTOR, f".card:nth-child({n})") for n in (2, 3))
    assert part(broken, "alert") == "The image is damaged: send a whole one."
    sentence = "The file is too large: it has 20,971,521 bytes, the service accepts 20,971,520."
    assert part(huge, "alert") == sentence
    assert not relayed.shows("retry"), "another try would end the same"
    assert len(cards) - 2 == len(relayed.chrome.find_elements(By.CSS_SELECTOR, ".REAL, .FAKE, .UNSURE"))
    assert sorted(network.seen) == sorted([name] for name in ["broken.jpg", "photo.png", *names])
    assert network.most <= 2


LONGEST_BLOCK = """
let last = performance.now();
window.longest = 0;
setInterval(() => {
    window.longest = Math.max(window.longest, performance.now() - last);
    last = performance.now();
}, 20);
"""


FAULTS = {
    "cut the upload": "The service does not answer.",
    "cut the response": "The connection broke.",
    "silence": "The service takes too long.",
    "page 502": "Something else answers in place of the service (status 502).",
    "page 200": "Something else answers in place of the service (status 200).",
    "JSON null": "Something else answers in place of the service (status 200).",
    'JSON {"detail": [{}]}': "Something else answers in place of the service (status 200).",
}


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize(("fault", "sentence"), FAULTS.items())
def test_what_passes_is_tried_again(relayed: Page, network: Network, fault: str, sentence: str) -> None:
    network.faults = [fault] * 4  # Chromium itself repeats a request whose connection was open before
    cards = relayed.choose("whole.bmp", "photo.png", "dark.png", "large.jpg")
    assert all_classified(cards)
    assert f"{sentence} Trying again in 1 s." in relayed.log()
    assert relayed.bar() == "4 of 4 done."


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("fault", ["cut the upload", "page 503"])
def test_what_lasts_is_given_up_until_a_person_tries_again(relayed: Page, network: Network, fault: str) -> None:
    sentence = FAULTS.get(fault, "Something else answers in place of the service (status 503).")
    network.faults = [fault] * 100
    cards = relayed.choose("whole.bmp", "photo.png", "dark.png")
    assert {(part(card, "prediction"), part(card, "alert")) for card in cards} == {("No prediction", sentence)}
    assert relayed.chrome.execute_script("return window.waits") == [1, 2, 4, 8, 10], "seconds"
    assert relayed.bar() == "3 of 3 done, 3 without a prediction."
    assert f": no prediction. {sentence}" in relayed.log()
    network.faults = []
    cards[2].find_element(By.TAG_NAME, "button").click()
    relayed.cards(3)
    assert [part(card, "prediction") in WORDS.values() for card in cards] == [False, False, True]
    relayed.click("retry")
    assert relayed.chrome.switch_to.active_element in cards[:2], "the focus is not lost with the button"
    assert all_classified(relayed.cards(3))
    assert not relayed.shows("retry")


@pytest.mark.parametrize(
    ("fault", "sentence", "again"),
    [
        ("page 413", "The file is too large for the service.", False),
        ("page 404", "Something else answers in place of the service (status 404).", True),
        ("page 500", "Something else answers in place of the service (status 500).", True),
    ],
)
def test_a_refusal_is_not_repeated_and_concerns_one_file(
    relayed: Page, network: Network, fault: str, sentence: str, again: bool
) -> None:
    network.faults = [fault]
    cards = relayed.choose("photo.png", "dark.png", "large.jpg")
    (failed,) = (card for card in cards if part(card, "prediction") == "No prediction")
    assert part(failed, "alert") == sentence
    assert failed.find_element(By.TAG_NAME, "button").is_displayed() == relayed.shows("retry") == again
    assert all_classified([card for card in cards if card != failed])
    assert len(network.seen) == 3


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_files_wait_for_a_service_that_restarts(chrome: webdriver.Chrome, tmp_path: Path, end: signal.Signals) -> None:
    with running_later(free_port()) as (url, start):
        first = start()
        page = Page(chrome, url, tmp_path)
        page.put(*(f"{i}.png" for i in range(40)))
        page.until(lambda: int(page.bar().split()[0]) > 2)
        first.send_signal(end)
        first.wait(20)
        page.until(lambda: "Trying again in" in page.bar())
        assert not page.bar().startswith("40")
        start()
        cards = page.cards(40)
        assert len(cards) == len(chrome.find_elements(By.CSS_SELECTOR, ".REAL, .FAKE, .UNSURE"))
        assert page.bar() == "40 of 40 done."


@contextmanager
def running_later(port: int) -> Iterator[tuple[str, Callable[[], subprocess.Popen]]]:
    """Give the address of a service, and what starts it in a new process: at once, since the process has all loaded."""
    processes = [
        subprocess.Popen([sys.executable, "-c", LATER, str(port)], cwd=ROOT, stdin=subprocess.PIPE) for _ in range(2)
    ]
    waiting = iter(processes)

    def start() -> subprocess.Popen:
        process = next(waiting)
        process.stdin.close()
        wait_for(f"http://127.0.0.1:{port}")
        return process

    try:
        yield f"http://127.0.0.1:{port}", start
    finally:
        for process in processes:
            process.kill()
            process.wait()


LATER = """
import sys, uvicorn
from lib.serving.app import create_app
app = create_app()
sys.stdin.read()
uvicorn.run(app, port=int(sys.argv[1]), log_level="error")
"""


def test_files_wait_while_the_browser_is_offline(page: Page) -> None:
    page.chrome.set_network_conditions(offline=True, latency=0, throughput=-1)
    page.put("photo.png", "dark.png")
    page.until(lambda: "The service does not answer. Trying again in" in page.bar())
    page.chrome.delete_network_conditions()
    assert all_classified(page.cards(2))
    page.chrome.get_log("browser")  # that there was no connection


def test_the_training_data_are_named_once_the_service_answers(
    chrome: webdriver.Chrome, network: Network, tmp_path: Path
) -> None:
    network.health = "page 502"
    page = Page(chrome, network.url, tmp_path)
    name = lambda: chrome.find_element(By.ID, "data").text  # noqa: E731
    page.until(lambda: name() == "data that the service does not name now")
    network.health = ""
    page.choose("photo.png")
    page.until(lambda: name() == "CIFAKE")


def test_all_can_be_removed_while_files_wait(relayed: Page, network: Network) -> None:
    network.faults = ["silence"] * 2
    relayed.put(*(f"{i}.png" for i in range(20)))
    relayed.until(lambda: not network.faults)
    relayed.click("clear")
    relayed.cards(0)
    assert all_classified(relayed.choose("photo.png", "dark.png")), "the requests in progress were ended"
    assert relayed.bar() == "2 of 2 done."
    assert sorted(network.seen[2:]) == [["dark.png"], ["photo.png"]]


def test_the_same_file_again_and_files_that_are_gone_or_changed(
    relayed: Page, network: Network, tmp_path: Path
) -> None:
    network.faults = ["page 503"] * 2
    relayed.put("photo.png", "dark.png", "large.jpg", "broken.jpg")
    (tmp_path / "large.jpg").unlink()
    (tmp_path / "broken.jpg").write_bytes(IMAGES["large.jpg"])
    relayed.put("photo.png")
    cards = relayed.cards(5)
    names = [part(card, "name").partition(",")[0] for card in cards]
    assert names == ["photo.png", "photo.png", "dark.png", "large.jpg", "broken.jpg"]
    assert all_classified(cards[:3])
    sentence = "The file cannot be read. Is it a folder, or was it changed, moved or removed?"
    assert [part(card, "alert") for card in cards[3:]] == [sentence, sentence]

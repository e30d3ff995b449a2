"""The site: it builds strictly, its links and anchors lead somewhere, and it loads nothing from elsewhere."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from lib.core.files import ROOT
from lib.core.parameters import declared

pytestmark = pytest.mark.slow

# What a browser loads by itself, by element and attribute. Links that a reader may follow are others.
LOADED = {("script", "src"), ("link", "href"), ("img", "src"), ("source", "srcset"), ("iframe", "src")}


class Links(HTMLParser):
    """Collect the anchors of a page, the addresses that it links to, and those that it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            if (tag, name) in LOADED and value:
                self.loaded.add(value)
            elif tag == "a" and name == "href" and value:
                self.links.add(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site, strictly; return its folder."""
    folder = tmp_path_factory.mktemp("site")
    run = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, env=os.environ | {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Links]:
    return {path: Links(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def test_every_link_and_anchor_leads_somewhere(site: Path, pages: dict[Path, Links]) -> None:
    broken = []
    for page, links in pages.items():
        if page.name == "404.html":
            continue  # its addresses begin at the root of the server
        for link in links.links | links.loaded:
            address = urlsplit(link)
            if address.scheme or address.netloc:
                continue
            target = (page.parent / unquote(address.path)).resolve() if address.path else page.resolve()
            target = target / "index.html" if target.is_dir() else target
            anchors = pages[target].anchors if target in pages else None
            if not target.is_file() or (
                address.fragment and anchors is not None and unquote(address.fragment) not in anchors | {"__top"}
            ):
                broken.append(f"{page.relative_to(site)}: {link}")
    assert not broken


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Links]) -> None:
    for page, links in pages.items():
        foreign = [address for address in links.loaded if urlsplit(address).netloc]
        assert not foreign, page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


@pytest.mark.parametrize("notebook", ["01_data", "02_train", "06_export"])
def test_reference_has_every_parameter(site: Path, notebook: str) -> None:
    text = (site / "reference" / "parameters" / "index.html").read_text(encoding="utf-8")
    section = text.partition(f'<h2 id="{notebook}">')[2].partition("<h2 ")[0]
    expected = set(declared(notebook)) - {"upstream", "product", "lib_hash", "source_state"}
    assert expected <= set(re.findall(r"<tr>\s*<td><code>(\w+)</code>", section))

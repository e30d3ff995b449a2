"""MkDocs hooks: files of the project become pages, and links that leave docs/ lead to them.

The same Markdown works in the repository and on the site: a relative link to a page, a module of lib or a folder leads
to its page, and one to any other file to a copy of it. A link to nothing fails the build.
"""

import logging
import os
import posixpath
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))
import reference

from lib.core.files import read_json

ROOT = Path(__file__).parents[2]
NOTEBOOKS = {path.name: f"notebooks/{path.name}" for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
# Files outside docs/ that are pages, by their path in the project.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "outputs/reference/README.md": "results/model_card.md",
}
# What else of the project has a page that tells of it.
TOLD_BY = {
    **{f"{folder}notebooks/{name}": page for name, page in NOTEBOOKS.items() for folder in ("", "outputs/reference/")},
    **{f"lib/{package}": f"reference/api/{package}.md" for package in reference.PACKAGES},
    "lib": "architecture.md",
    "docs": "index.md",
    "outputs/reference": "results/model_card.md",
    "outputs/reference/baselines": "results/baselines.md",
    "outputs/reference/notebooks": "notebooks/01_data.ipynb",
}
COPIES = "files"  # the folder of the site for copies of other files

log = logging.getLogger("mkdocs.hooks")
_MARKDOWN_LINK = re.compile(r"(?P<before>\]\()(?P<target>[^)\s]+)(?P<after>\))")
_HTML_LINK = re.compile(r"(?P<before>\b(?:href|src|srcset)=\")(?P<target>[^\"]+)(?P<after>\")")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Link to the repository where a workflow of GitHub builds the site; a clone may lie anywhere."""
    if repository := os.environ.get("GITHUB_REPOSITORY"):
        config.repo_url, config.repo_name = f"{os.environ['GITHUB_SERVER_URL']}/{repository}", repository
    return config


@event_priority(100)  # before mkdocs-jupyter looks for notebooks
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the project's pages, and those of the reference that are made from the code."""
    for path, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / path)))
    executed = str(ROOT / "outputs" / "reference")  # mkdocs-jupyter needs files in a folder
    for page in NOTEBOOKS.values():
        files.append(File(page, executed, config.site_dir, config.use_directory_urls))
    for page, content in reference.pages().items():
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links out of docs/ to the pages or the copies of what they name."""
    if page.file.generated_by and page.file.src_uri not in PAGES.values():
        return markdown  # of the reference: written for the site
    sources = {uri: path for path, uri in PAGES.items()}
    folder = posixpath.dirname(sources.get(page.file.src_uri, f"docs/{page.file.src_uri}"))

    def markdown_link(match: re.Match[str]) -> str:
        path, _, anchor = match["target"].partition("#")
        if not path or "://" in path or path.startswith("mailto:"):
            return match[0]
        uri, of_module = _page_of(posixpath.normpath(posixpath.join(folder, path)), page, config, files)
        target = posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".")
        return f"{match['before']}{target}{'#' + (anchor or of_module) if anchor or of_module else ''}{match['after']}"

    def html_link(match: re.Match[str]) -> str:
        if "://" in match["target"] or match["target"].startswith("#"):
            return match[0]
        uri, _ = _page_of(posixpath.normpath(posixpath.join(folder, match["target"])), page, config, files)
        file = files.get_file_from_path(uri)
        return f"{match['before']}{file.url_relative_to(page.file) if file else uri}{match['after']}"

    return _HTML_LINK.sub(html_link, _MARKDOWN_LINK.sub(markdown_link, markdown))


def _page_of(path: str, page: Page, config: MkDocsConfig, files: Files) -> tuple[str, str]:
    """Return what of the site a path of the project leads to, and the anchor in it."""
    known = PAGES.get(path) or TOLD_BY.get(path)
    if known:
        return known, ""
    if path.startswith("docs/") and not path.startswith("docs/scripts/"):
        return path.removeprefix("docs/"), ""  # MkDocs itself says where it is missing
    module = path.removesuffix(".py").replace("/", ".")
    if path.startswith("lib/") and path.endswith(".py") and path.count("/") == 2:
        return f"reference/api/{path.split('/')[1]}.md", module
    if not (ROOT / path).is_file():
        log.warning("%s has a link to %s, which is no file of the project and has no page", page.file.src_uri, path)
        return path, ""
    uri = f"{COPIES}/{path}"
    if files.get_file_from_path(uri) is None:
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
    return uri, ""


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links between notebooks to their pages, and say above each which run it is."""
    if not page.file.src_uri.endswith(".ipynb"):
        return html
    run = read_json(ROOT / "outputs" / "reference" / "run.json")
    note = (
        f'<div class="admonition note"><p>Executed on all of {run["data"]["data"]} for the release. Its network was '
        "trained at commit "
        f"<code>{run['git_commit'][:7]}</code>. What has another name since then: "
        '<a href="../../changelog/">changelog</a>.</p></div>'
    )
    for name in NOTEBOOKS:
        html = html.replace(f'href="{name}"', f'href="../{name.removesuffix(".ipynb")}/"')
    return note + html

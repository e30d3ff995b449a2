"""Provenance: an edit in lib changes the hash of the notebooks that import it, and of no others."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml

from lib.core import files, provenance
from lib.core.errors import InputError

NOTEBOOKS = ("01_data", "02_train", "03_sweep", "04_evaluate", "05_compare_vgg", "06_export")


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy lib and the notebooks to a folder that lib_hash then reads instead of the project."""
    for name in ("lib", "notebooks"):
        shutil.copytree(files.ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.ipynb"))
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setattr(provenance, "_LIB", tmp_path / "lib")
    return tmp_path


def hashes() -> dict[str, str]:
    """Return the hashes that the pipeline computes: of each notebook and of the report."""
    tasks = yaml.safe_load(files.project_path("pipeline.yaml").read_text())["tasks"]
    named = {task["name"]: dict(task["params"]["lib_hash"]) for task in tasks}
    assert {names.pop("dotted_path") for names in named.values()} == {"lib.core.provenance::lib_hash"}
    return {task: provenance.lib_hash(**names) for task, names in named.items()}


@cache
def hashes_before() -> dict[str, str]:
    """Return the hashes of an unedited copy, which are the same in each test."""
    return hashes()


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("data/packing.py", {"01_data"}),
        ("training/detector.py", {"02_train", "03_sweep", "05_compare_vgg", "06_export"}),
        ("evaluation/metrics.schema.json", {"04_evaluate", "05_compare_vgg", "06_export"}),
        ("export/quantize.py", {"06_export"}),
        ("sweep/engine.py", {"03_sweep"}),
        ("plots/sweep.py", {"03_sweep"}),
        ("plots/style.py", {*NOTEBOOKS}),
        ("plots/__init__.py", {*NOTEBOOKS}),
        ("reporting/__init__.py", {"report"}),
        ("reporting/report.html.j2", {"report"}),
        ("core/errors.py", {*NOTEBOOKS, "report"}),
        ("__init__.py", {*NOTEBOOKS, "report"}),
        ("serving/app.py", set()),
        ("__main__.py", set()),
    ],
)
def test_edit_changes_the_hashes_of_its_importers_only(copy: Path, file: str, changed: set[str]) -> None:
    before = hashes_before()
    path = copy / "lib" / file
    path.write_text(path.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")
    assert {name for name, value in hashes().items() if value != before[name]} == changed


@pytest.mark.parametrize(
    ("statement", "changes"),
    [
        ("import lib.extra.module", True),
        ("from lib.extra import module", True),
        ("from lib.extra.module import name", True),
        ("from lib.extra.module import name as other", True),
        ("from lib import extra", False),  # the package alone, which imports nothing
        ("import torch.extra.module", False),
    ],
)
def test_every_form_of_import_is_followed_through_packages(copy: Path, statement: str, changes: bool) -> None:
    package = copy / "lib" / "extra"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "module.py").write_text("name = 1\n")
    # Inside a function too, where lib imports what is slow.
    (copy / "notebooks" / "07_new.py").write_text(f"def late():\n    {statement}\n")
    before = provenance.lib_hash("07_new")
    (package / "module.py").write_text("name = 2\n")
    assert (provenance.lib_hash("07_new") != before) == changes


def test_modules_of_one_name_in_two_packages_are_told_apart(copy: Path) -> None:
    before = provenance.lib_hash(module="evaluation.metrics")
    (copy / "lib" / "serving" / "metrics.py").write_text("")
    assert provenance.lib_hash(module="evaluation.metrics") == before


def test_line_endings_do_not_count(copy: Path) -> None:
    before = hashes()
    path = copy / "lib" / "core" / "errors.py"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert hashes() == before


@pytest.mark.parametrize("given", [{"notebook": "07_none"}, {"module": "training.none"}, {"module": "training"}, {}])
def test_unknown_name(given: dict[str, str]) -> None:
    with pytest.raises(InputError, match="lib_hash needs the name"):
        provenance.lib_hash(**given)


def git(folder: Path, *arguments: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a repository with one commit, and record the commits of a project in it."""
    for name in ("GIT_DIR", "GIT_WORK_TREE"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "repository"
    git(folder, "init", "-q")
    (folder / "file").touch()
    git(folder, "add", "file")
    git(folder, "commit", "-q", "-m", "first")
    monkeypatch.setattr(provenance, "ROOT", folder)
    return folder


def test_commit_of_the_project_and_its_worktrees(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = git(repository, "rev-parse", "HEAD").strip()
    assert provenance.git_commit() == commit
    (repository / "file").write_text("edited")
    assert provenance.git_commit() == f"{commit}-dirty"
    worktree = repository.with_name("worktree")
    git(repository, "worktree", "add", "-q", str(worktree))
    link = repository.with_name("link")
    link.symlink_to(worktree)
    for root in (worktree, link):
        monkeypatch.setattr(provenance, "ROOT", root)
        assert provenance.git_commit() == commit


@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("depth", ["project", "a/b/project"])
def test_commit_of_a_repository_around_the_project_is_not_recorded(
    repository: Path, monkeypatch: pytest.MonkeyPatch, depth: str, damaged: bool
) -> None:
    project = repository / depth
    (project / ".git" if damaged else project).mkdir(parents=True)
    monkeypatch.setattr(provenance, "ROOT", project)
    assert provenance.git_commit() is None


@pytest.mark.parametrize("variables", [{"GIT_DIR"}, {"GIT_DIR", "GIT_WORK_TREE"}])
@pytest.mark.parametrize("own", [True, False])
def test_variables_of_git_do_not_point_to_another_repository(
    repository: Path, monkeypatch: pytest.MonkeyPatch, variables: set[str], own: bool
) -> None:
    project = repository.with_name("project")
    project.mkdir()
    commit = None
    if own:
        git(project, "init", "-q")
        git(project, "commit", "-q", "--allow-empty", "-m", "own")
        commit = git(project, "rev-parse", "HEAD").strip()
    monkeypatch.setattr(provenance, "ROOT", project)
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))
    if "GIT_WORK_TREE" in variables:
        monkeypatch.setenv("GIT_WORK_TREE", str(project))
    assert provenance.git_commit() == commit

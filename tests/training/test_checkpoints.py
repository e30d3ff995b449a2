"""Checkpoints: whatever is damaged, cleared or moved, a run ends with the weights of an undisturbed one."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from conftest import settings

from lib.core.errors import InputError
from lib.core.files import read_json
from lib.data.dataset import PackedDataset
from lib.training.checkpoints import AtomicCheckpointIO
from lib.training.detector import Detector
from lib.training.train import train

SETTINGS = settings(epochs=4)


def files(folder: Path) -> tuple[bytes, pd.DataFrame]:
    """Return the weights and the metrics of a finished run."""
    history = pd.read_csv(folder / "history.csv").drop(columns="seconds")
    return (folder / "weights.safetensors").read_bytes(), history


def assert_equal(folder: Path, undisturbed: Path) -> None:
    (weights, history), (expected, expected_history) = files(folder), files(undisturbed)
    pd.testing.assert_frame_equal(history, expected_history)
    assert weights == expected


def interrupted(dataset: PackedDataset, folder: Path, epoch: int) -> None:
    """Train until `epoch` (from 0) would begin."""
    started = Detector.on_train_epoch_start

    def interrupt(detector: Detector) -> None:
        if detector.current_epoch == epoch:
            raise RuntimeError("interrupted")
        started(detector)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="interrupted"):
        patch.setattr(Detector, "on_train_epoch_start", interrupt)
        train(dataset, SETTINGS, folder, progress=False)


@pytest.fixture(scope="module")
def undisturbed(sample_dataset: PackedDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    train(sample_dataset, SETTINGS, folder, progress=False)
    return folder


@pytest.fixture(scope="module", params=[1, 2, 3], ids=lambda epoch: f"after {epoch}")
def unfinished(
    request: pytest.FixtureRequest, sample_dataset: PackedDataset, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return the folder of a run interrupted after so many epochs: its last epoch is the best one, or is not."""
    folder = tmp_path_factory.mktemp("unfinished")
    interrupted(sample_dataset, folder, request.param)
    return folder


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def hole(path: Path) -> None:
    """Overwrite a part of the tensors alone: the archive around them stays whole."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    path.write_bytes(content)


def removed(path: Path) -> None:
    path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("damage", [emptied, cut, zeros, hole, removed])
@pytest.mark.parametrize("names", [["last"], ["best"], ["best", "last"]], ids="+".join)
def test_damaged_checkpoints_do_not_change_the_result(
    undisturbed: Path,
    unfinished: Path,
    sample_dataset: PackedDataset,
    tmp_path: Path,
    names: list[str],
    damage: Callable[[Path], None],
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(unfinished, folder)
    for name in names:
        damage(folder / "checkpoints" / f"{name}.ckpt")
    if damage is removed and names != ["best"]:  # nothing says that there was a last one
        train(sample_dataset, SETTINGS, folder, progress=False)
    else:
        with pytest.warns(UserWarning, match=rf"cannot read .*{names[0]}\.ckpt .*training goes on from"):
            train(sample_dataset, SETTINGS, folder, progress=False)
    assert_equal(folder, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("gone", ["", "best.ckpt", "checkpoints"])
@pytest.mark.parametrize("damage", [cut, hole, removed])
@pytest.mark.parametrize("name", ["weights.safetensors", "history.csv", "run.json"])
def test_damaged_files_of_a_finished_run_are_written_again(
    undisturbed: Path,
    sample_dataset: PackedDataset,
    tmp_path: Path,
    name: str,
    damage: Callable[[Path], None],
    gone: str,
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    damage(folder / name)
    if gone == "checkpoints":
        shutil.rmtree(folder / gone)
    elif gone:
        (folder / "checkpoints" / gone).unlink()
    if name == "run.json" and damage is removed:
        train(sample_dataset, SETTINGS, folder, progress=False)
    else:
        expected = rf"damaged or missing in .*{name}|cannot read .*best"
        with pytest.warns(UserWarning, match=expected):
            train(sample_dataset, SETTINGS, folder, progress=False)
    assert_equal(folder, undisturbed)
    assert read_json(folder / "run.json")["best_epoch"] == read_json(undisturbed / "run.json")["best_epoch"]


@pytest.mark.slow
def test_checkpoints_that_moved_to_another_disk_are_resumed(
    undisturbed: Path, unfinished: Path, sample_dataset: PackedDataset, tmp_path: Path
) -> None:
    folder, disk = tmp_path / "run", tmp_path / "disk"
    shutil.copytree(unfinished, folder)
    (folder / "checkpoints").rename(disk)
    (folder / "checkpoints").symlink_to(disk)
    train(sample_dataset, SETTINGS, folder, progress=False)
    assert_equal(folder, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("linked", ["checkpoints", "weights.safetensors", "history.csv", "run.json", "."])
def test_other_settings_are_trained_anew_through_symlinks(
    undisturbed: Path, sample_dataset: PackedDataset, tmp_path: Path, linked: str
) -> None:
    folder, disk = tmp_path / "run", tmp_path / "disk"
    if linked == ".":
        disk.mkdir()
        folder.symlink_to(disk)
    else:
        folder.mkdir()
        (disk / "checkpoints").mkdir(parents=True)
        (folder / linked).symlink_to(disk / linked)
    other = settings(seed=5, epochs=2)
    train(sample_dataset, other, folder, progress=False)
    before = files(folder)[0]
    train(sample_dataset, SETTINGS, folder, progress=False)
    assert_equal(folder, undisturbed)
    assert files(folder)[0] != before
    assert (folder if linked == "." else folder / linked).is_symlink()


def test_nothing_is_labelled_when_checkpoints_cannot_be_cleared(
    undisturbed: Path, sample_dataset: PackedDataset, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with pytest.MonkeyPatch.context() as patch, pytest.raises(InputError, match=r"cannot clear .*checkpoints"):
        patch.setattr(Path, "unlink", refuse)
        train(sample_dataset, settings(seed=5), folder, progress=False)
    assert read_json(folder / "run.json")["parameters"]["seed"] == SETTINGS.seed
    assert read_json(folder / "checkpoints" / "fingerprint.json")["settings"]["seed"] == SETTINGS.seed


def test_full_disk_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)

    def half(checkpoint: object, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.save", half)
    with pytest.raises(InputError, match=r"cannot write .*last\.ckpt: No space left"):
        AtomicCheckpointIO().save_checkpoint({"epoch": 2}, path)
    assert AtomicCheckpointIO().load_checkpoint(path) == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]

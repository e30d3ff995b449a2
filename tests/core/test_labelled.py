"""Labelled images in the layouts that are in use, as a folder and as a zip, and what is wrong with bad ones."""

from pathlib import Path

import numpy as np
import pytest
from conftest import encoded, zipped

from lib.core.errors import InputError
from lib.core.labelled import LabelledImages, open_labelled

PNG = encoded(np.zeros((4, 4, 3), np.uint8), "PNG")


def written(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(PNG)
    return folder


def found(images: LabelledImages) -> dict[str, list[int]]:
    return {title: [file.label for file in files] for title, files in images.sets.items()}


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize(
    ("names", "sets"),
    [
        (["FAKE/a.png", "REAL/b.png", "REAL/c.png"], {"own": [0, 1, 1]}),
        (["fake/a.png", "Real/b.png"], {"own": [0, 1]}),
        (["0_real/a.png", "1_fake/b.png"], {"own": [1, 0]}),
        (["nature/a.png", "ai/b.png"], {"own": [0, 1]}),
        (["top/sd/train/ai/a.png", "top/sd/val/nature/b.png"], {"train": [0], "val": [1]}),
        (["top/a/FAKE/deep/down/a.png", "top/b/0_real/b.png"], {"a": [0], "b": [1]}),
        (["x/REAL/a.png", "x/y/REAL/a.png"], {"x": [1], "x/y": [1]}),
        (["x/REAL/a.png"], {"x": [1]}),
    ],
)
def test_each_layout_is_found_at_any_depth(
    names: list[str], sets: dict[str, list[int]], as_zip: bool, tmp_path: Path
) -> None:
    folder = written(tmp_path / "own", *names)
    images = open_labelled(zipped(folder) if as_zip else folder)
    assert {title: sorted(labels) for title, labels in found(images).items()} == {
        title: sorted(labels) for title, labels in sets.items()
    }
    assert {images.read(file.name) for files in images.sets.values() for file in files} == {PNG}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.png", "cats/b.png"], "has no folder of a class that holds an image: put the images into folders FAKE and"),
        (["FAKE/readme.txt"], "has no folder of a class that holds an image"),
        (["s/FAKE/a.png", "s/nature/b.png"], "the set s mixes two layouts, FAKE/REAL and ai/nature"),
        (["ai/FAKE/a.png"], r"ai/FAKE/a.png lies in two class folders, ai and FAKE: rename one"),
    ],
)
def test_what_has_no_clear_class_is_refused(names: list[str], message: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).write_bytes(PNG if name.endswith("png") else b"no image")
    with pytest.raises(InputError, match=message):
        open_labelled(tmp_path / "own")
    with pytest.raises(InputError, match="no such file or folder"):
        open_labelled(tmp_path / "other")


def test_what_is_beside_the_sets_is_told(tmp_path: Path) -> None:
    folder = written(tmp_path / "own", "e/s/FAKE/a.png", "e/t/REAL/b.png", "e/c.png", "e/t/REAL/.d.png")
    (folder / "e/s/FAKE/notes.txt").write_text("no image")
    (folder / "e/sets.csv").write_text("\ufeffset,generator\ns,a GAN\nu,unknown\n", encoding="utf-8")
    images = open_labelled(folder)
    assert found(images) == {"s": [0], "t": [1]}
    assert images.descriptions == {"s": {"generator": "a GAN"}}
    assert (images.outside, images.skipped) == (("e/c.png",), ("e/s/FAKE/notes.txt",))
    (folder / "e/sets.csv").write_text("name\ns\n")
    with pytest.raises(InputError, match=r"sets\.csv has no column set"):
        open_labelled(folder)
    (folder / "e/sets.csv").write_bytes(b"set\n\xe4\n")
    with pytest.raises(InputError, match="save it as CSV in UTF-8"):
        open_labelled(folder)


def test_files_without_a_suffix_are_images_by_their_content(tmp_path: Path) -> None:
    assert found(open_labelled(written(tmp_path / "own", "FAKE/0a1b2c"))) == {"own": [0]}

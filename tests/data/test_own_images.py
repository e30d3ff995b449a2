"""Data sets of one's own: layouts, splits that are made, sizes, and what is refused."""

import io
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import encoded, zipped
from PIL import Image

from lib.core.errors import InputError
from lib.core.file_set import MAX_BYTES
from lib.core.input_rule import InputRule
from lib.core.parameters import out_of_limits
from lib.core.rows import ImageRows, in_parts
from lib.data.augment import Augmentation
from lib.data.batches import Batches
from lib.data.dataset import PackedDataset
from lib.data.packing import pack_dataset
from lib.data.source import open_source

Write = Callable[..., Path]


@pytest.fixture
def own(tmp_path: Path) -> Write:
    """Return a function that writes random images of a size into folders, `n` in each, and returns the top folder."""

    def write(folders: tuple[str, ...], n: int = 30, side: tuple[int, int] = (80, 72)) -> Path:
        for index, folder in enumerate(folders):
            rng = np.random.default_rng(index)
            (tmp_path / "own" / folder).mkdir(parents=True, exist_ok=True)
            for number in range(n):
                pixels = rng.integers(0, 256, (*side, 3), np.uint8)
                (tmp_path / "own" / folder / f"{number}.png").write_bytes(encoded(pixels, "PNG"))
        return tmp_path / "own"

    return write


def packed(path: Path, **options: object) -> PackedDataset:
    source = open_source(str(path), path.parent / "sample")
    return pack_dataset(source, path.parent / "dataset", progress=False, **options)


def images_of(dataset: PackedDataset, split: str) -> set[bytes]:
    return {image.tobytes() for image in dataset.rows(split)[:]}


LAYOUTS = [("FAKE", "REAL"), ("fake", "real"), ("1_fake", "0_real"), ("ai", "nature")]


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS, ids="-".join)
def test_a_split_is_made_where_there_is_none(own: Write, layout: tuple[str, str], as_zip: bool) -> None:
    folder = own(layout, n=20)
    dataset = packed(zipped(folder) if as_zip else folder, image_size=64, resize="crop", test_fraction=0.25)
    counts = dataset.records.groupby(["split", "label"]).size().to_dict()
    assert counts == {("test", 0): 5, ("test", 1): 5, ("train", 0): 13, ("train", 1): 13, ("val", 0): 2, ("val", 1): 2}
    assert set(dataset.records["object_class"]) == {"unknown"}
    assert dataset.metadata["data"] == "own images (own, 40 images)"
    assert (dataset.metadata["resize"], dataset.metadata["other_sizes"], dataset.input_rule) == ("crop", 40, 2)


@pytest.mark.parametrize("layout", LAYOUTS, ids="-".join)
def test_folders_train_and_test_are_kept(own: Write, layout: tuple[str, str]) -> None:
    folder = own(tuple(f"data/{split}/{name}" for split in ("Train", "test") for name in layout), n=20)
    dataset = packed(folder, image_size=48)
    assert dataset.metadata["counts"] == dict.fromkeys(("train/FAKE", "train/REAL", "test/FAKE", "test/REAL"), 20)
    assert dataset.metadata["test_fraction"] is None
    in_test = dataset.records["file"].str.startswith("test/")
    assert (in_test == (dataset.records["split"] == "test")).all()


def test_sets_below_sub_folders_are_taken_together(own: Write) -> None:
    source = open_source(str(own(("camera/REAL", "gan/FAKE", "diffusion/FAKE"), n=20)), Path())
    assert [record.label for record in source.records].count(0) == 40
    assert {record.split for record in source.records} == {""}


def test_a_split_has_no_image_on_both_sides_and_depends_on_the_seed(own: Write) -> None:
    folder = own(("FAKE", "REAL"))
    for number in range(10):
        (folder / "FAKE" / f"copy {number}.png").write_bytes((folder / "FAKE" / f"{number}.png").read_bytes())
    datasets = [packed(folder, test_fraction=0.4, split_seed=seed) for seed in (0, 1)]
    for dataset in datasets:
        sides = [images_of(dataset, split) for split in ("train", "val", "test")]
        assert not any(first & second for first, second in zip(sides, [*sides[1:], sides[0]], strict=True))
        assert not dataset.records["leaked"].any()
    assert datasets[0].records["split"].tolist() != datasets[1].records["split"].tolist()
    assert packed(folder, test_fraction=0.4).records.equals(datasets[0].records)


def test_folders_within_both_classes_are_object_classes(own: Write) -> None:
    source = open_source(str(own(("FAKE/cat", "REAL/cat", "FAKE/dog", "REAL/dog", "FAKE/of one class"))), Path())
    assert {record.object_class for record in source.records} == {"cat", "dog", "unknown"}


@pytest.mark.parametrize("size", [16, 64, 256])
def test_images_are_resized_whole_as_the_service_does(own: Write, size: int) -> None:
    dataset = packed(own(("FAKE", "REAL")), image_size=size)
    assert dataset.images.shape == (60, size, size, 3)
    with Image.open(dataset_file(dataset, 3)) as image:
        np.testing.assert_array_equal(dataset.images[3], InputRule(size, 1).apply(image))


def dataset_file(dataset: PackedDataset, index: int) -> Path:
    return Path(dataset.metadata["location"]) / dataset.records["file"][index]


def test_a_crop_is_the_centre_pixel_by_pixel(own: Write) -> None:
    dataset = packed(own(("FAKE", "REAL")), image_size=64, resize="crop")
    with Image.open(dataset_file(dataset, 3)) as image:
        np.testing.assert_array_equal(dataset.images[3], np.asarray(image)[8:72, 4:68])


def test_random_crops_move_in_training_and_nowhere_else(own: Write) -> None:
    dataset = packed(own(("FAKE", "REAL"), side=(48, 40)), image_size=32, resize="random_crop")
    assert (dataset.packed.shape[1], dataset.margin, dataset.image_size) == (40, 4, 32)
    with Image.open(dataset_file(dataset, 0)) as image:
        np.testing.assert_array_equal(dataset.images[0], np.asarray(image)[8:40, 4:36])
    augmentation = Augmentation(image_size=32, margin=4)
    whole = torch.from_numpy(np.array(dataset.packed))
    ((batch, indices),) = Batches(whole, torch.arange(60), 60, augmentation, seed=0)
    windows = {
        (top, left)
        for image, index in zip(batch.permute(0, 2, 3, 1), indices, strict=True)
        for top in range(9)
        for left in range(9)
        if torch.equal(image, whole[index, top : top + 32, left : left + 32])
    }
    assert len(windows) > 20, "every image is a window of its own pixels, nothing is reflected"


def test_batches_from_the_file_equal_those_from_memory(own: Write) -> None:
    dataset = packed(own(("FAKE", "REAL")), image_size=64)
    rows, augmentation = dataset.rows("train"), Augmentation(flip=True, translate=2, image_size=64)
    labels = torch.arange(len(rows))
    of_file, of_memory = (
        list(Batches(images, labels, 8, augmentation, seed=3)) for images in (rows, torch.from_numpy(rows[:]))
    )
    for (first, first_labels), (second, second_labels) in zip(of_file, of_memory, strict=True):
        assert torch.equal(first, second) and torch.equal(first_labels, second_labels)


def test_another_process_opens_the_file_instead_of_receiving_its_pixels(own: Write) -> None:
    dataset = packed(own(("FAKE", "REAL")), image_size=64)
    content = pickle.dumps(dataset)
    assert len(content) < dataset.packed.nbytes / 10
    np.testing.assert_array_equal(pickle.loads(content).images, dataset.images)
    part = PackedDataset(dataset.packed[:3], dataset.records[:3], dataset.metadata)
    assert pickle.loads(pickle.dumps(part)).images.shape == (3, 64, 64, 3)


def test_rows_are_read_in_parts_of_a_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3), np.uint8)
    monkeypatch.setattr("lib.core.rows._AT_ONCE", 3 * images[0].nbytes)
    sizes: list[int] = []
    rows = ImageRows(images, np.arange(9, -1, -1))
    means = in_parts(lambda part: (sizes.append(len(part)), part.mean((1, 2, 3)))[1], rows)
    np.testing.assert_array_equal(means, images[::-1].mean((1, 2, 3)))
    assert sizes == [3, 3, 3, 1]
    assert ImageRows(images, np.arange(10), channels_first=True)[:2].shape == (2, 3, 16, 16)


def test_images_in_both_classes_are_named_and_in_no_split(own: Write) -> None:
    folder = own(("FAKE", "REAL"))
    for number in (3, 7):
        (folder / "REAL" / f"{number}.png").write_bytes((folder / "FAKE" / f"{number}.png").read_bytes())
    with pytest.warns(UserWarning, match=r"2 different images are in both classes.*4 files: FAKE/3.png"):
        dataset = packed(folder)
    assert dataset.metadata["label_conflicts"] == 2
    assert sorted(dataset.metadata["excluded"]) == ["FAKE/3.png", "FAKE/7.png", "REAL/3.png", "REAL/7.png"]
    assert (dataset.records["split"] == "excluded").sum() == 4
    assert sum(dataset.metadata["counts"].values()) == 56


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("REAL",), "own has no image of FAKE: check that the dataset is complete"),
        (("train/FAKE", "train/REAL"), "has no image in test/FAKE"),
        (("train/FAKE", "train/REAL", "test/FAKE"), "has no image in test/REAL"),
        (("photos",), "no folder of a class that holds an image: put the images into folders FAKE and REAL"),
        (("FAKE", "nature"), "mixes two layouts, (FAKE/REAL and ai/nature|ai/nature and FAKE/REAL): choose one"),
        (
            ("train/FAKE", "train/REAL", "test/FAKE", "test/REAL", "val/FAKE"),
            "val/FAKE/.* lies in neither train nor test",
        ),
    ],
)
def test_folders_that_make_no_dataset(own: Write, folders: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_source(str(own(folders, n=1)), Path())


def test_one_image_of_a_class_is_too_few(own: Write) -> None:
    folder = own(("FAKE", "REAL"))
    for file in sorted((folder / "REAL").iterdir())[1:]:
        file.unlink()
    with pytest.raises(InputError, match=r"REAL has 1 different images .* at least 5 to train on and 5 to test on"):
        packed(folder)


def test_too_few_images_to_test_on(own: Write) -> None:
    with pytest.raises(InputError, match=r"test/FAKE has 2 different images.* add some, or raise test_fraction"):
        packed(own(("FAKE", "REAL"), n=12))


@pytest.mark.parametrize(("resize", "size", "side"), [("crop", 80, 80), ("random_crop", 64, 80)])
def test_images_smaller_than_the_crop(own: Write, resize: str, size: int, side: int) -> None:
    with pytest.raises(InputError, match=rf"FAKE/0.png cannot be used .*is 72×80, too small to crop {side}×{side}"):
        packed(own(("FAKE", "REAL")), image_size=size, resize=resize)


@pytest.mark.parametrize("size", [0, 24, 33, 272, -32])
def test_sizes_that_are_no_multiple_of_16(own: Write, size: int) -> None:
    message = f"image_size is {size}: give a multiple of 16 from 16 to 256"
    assert out_of_limits("image_size", size) == message
    with pytest.raises(InputError, match=re.escape(message)):
        packed(own(("FAKE", "REAL"), n=1), image_size=size)


def test_a_zip_bomb_is_refused_before_it_unpacks(own: Write) -> None:
    archive = zipped(own(("FAKE", "REAL")))
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as file, file.open("FAKE/bomb.png", "w") as member:
        for _ in range(MAX_BYTES // 2**20 + 1):
            member.write(bytes(2**20))
    assert archive.stat().st_size < 2**21
    with pytest.raises(InputError, match=r"FAKE/bomb.png has .* bytes, more than an image should have"):
        packed(archive)


def test_an_image_that_unpacks_to_too_many_pixels_is_refused(own: Write) -> None:
    folder = own(("FAKE", "REAL"))
    file = io.BytesIO()
    Image.new("1", (8_000, 8_000)).save(file, "PNG")
    (folder / "FAKE" / "bomb.png").write_bytes(file.getvalue())
    with pytest.raises(InputError, match=r"FAKE/bomb.png cannot be used as an image \(the image has too many pixels"):
        packed(folder)

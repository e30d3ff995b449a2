"""Open a dataset from any source: the sample, a folder, a zip, or Kaggle. Later steps do not depend on which."""

import re
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from lib import CLASSES, OBJECT_CLASSES
from lib.core.errors import InputError
from lib.core.files import project_path
from lib.data.sample import make_sample

SPLITS = ("train", "test")
KAGGLE_DATASET = "birdy654/cifake-real-and-ai-generated-synthetic-images"

# An optional top folder, the split, the class, a name; the suffix "(k)" of the name is the object class.
_IMAGE_PATH = re.compile(
    r"(?P<top>(?:.*?/)?)(?P<split>train|test)/(?P<label>FAKE|REAL)/[^/]+?(?: \((?P<k>\d+)\))?\.(?:jpe?g|png)", re.I
)
_HIDDEN = re.compile(r"(?:^|/)(?:\.|__MACOSX/)")


class ImageRecord(NamedTuple):
    """Describe an image: its path inside the source, its split, its class, its CIFAR-10 object class."""

    file: str
    split: str
    label: int
    object_class: str


@dataclass(frozen=True)
class Source:
    """Hold the image records of a dataset in canonical order, and `read`, which returns the content of a file.

    The order is train before test, FAKE before REAL, then by file name in code-point order. `ignored` counts the
    visible files that are not images of the dataset.
    """

    kind: str
    location: str
    records: tuple[ImageRecord, ...]
    read: Callable[[ImageRecord], bytes] = field(repr=False)
    ignored: int = 0


def open_source(name: str, sample_folder: Path) -> Source:
    """Open the dataset `name`: "sample", "kaggle", or the path of a folder or a zip.

    The sample is made in `sample_folder`, offline. Raises InputError if the source cannot be found or read, or if one
    of train/FAKE, train/REAL, test/FAKE, test/REAL has no image.
    """
    if name == "sample":
        return _open_folder(make_sample(sample_folder), kind="sample")
    if name == "kaggle":
        return _open_folder(_download(), kind="kaggle")
    path = project_path(name)
    if path.is_dir():
        return _open_folder(path, kind="folder")
    if path.is_file():
        return _open_zip(path)
    raise InputError(f"source {name!r}: there is no {path}; give a zip, a folder, 'sample' or 'kaggle'")


def _open_folder(path: Path, kind: str) -> Source:
    names = [p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()]
    records, top, ignored = _image_records(names, str(path))
    return Source(kind, str(path), records, lambda record: (path / top / record.file).read_bytes(), ignored)


def _open_zip(path: Path) -> Source:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{path} is not a complete zip ({error}): download it again") from None
    names = [info.filename for info in archive.infolist() if not info.is_dir()]
    for name in names:
        if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name):
            raise InputError(f"{path}: its member {name!r} points outside the archive: do not trust this file")
    records, top, ignored = _image_records(names, str(path))

    def read(record: ImageRecord) -> bytes:
        try:
            return archive.read(top + record.file)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise InputError(f"{path}: {record.file} is damaged ({error}): download the zip again") from None

    return Source("zip", str(path), records, read, ignored)


def _image_records(names: list[str], location: str) -> tuple[tuple[ImageRecord, ...], str, int]:
    """Return the sorted records of the images among file `names`, their common top folder, and the number of others."""
    visible = [name for name in names if not _HIDDEN.search(name)]
    matches = [(name, match) for name in visible if (match := _IMAGE_PATH.fullmatch(name))]
    tops = {match["top"] for _, match in matches}
    if len(tops) > 1:
        raise InputError(f"{location} holds more than one dataset ({', '.join(sorted(tops))}): give one of them")
    top = tops.pop() if tops else ""
    records = []
    for name, match in matches:
        split, label = match["split"].lower(), CLASSES.index(match["label"].upper())
        records.append(ImageRecord(name.removeprefix(top), split, label, _object_class(match["k"])))
    present = {(record.split, record.label) for record in records}
    for split in SPLITS:
        for label, title in enumerate(CLASSES):
            if (split, label) not in present:
                raise InputError(f"{location} has no image in {split}/{title}: check that the dataset is complete")
    records.sort(key=lambda record: (SPLITS.index(record.split), record.label, record.file.rpartition("/")[2]))
    return tuple(records), top, len(visible) - len(matches)


def _object_class(suffix: str | None) -> str:
    number = int(suffix or 1)
    return OBJECT_CLASSES[number - 1] if 1 <= number <= len(OBJECT_CLASSES) else "unknown"


def _download() -> Path:
    import kagglehub  # here, because only this source needs it, and it imports slowly

    try:
        return Path(kagglehub.dataset_download(KAGGLE_DATASET))
    except Exception as error:  # whatever the cause, the remedy is the same
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"source 'kaggle': the download failed ({reason}); check the network, "
            f"or download {KAGGLE_DATASET} by hand and give its zip as the source"
        ) from None

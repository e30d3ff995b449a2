"""Open a dataset from any source: the sample, a folder, a zip, or Kaggle. Later steps do not depend on which."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from lib import CLASSES, OBJECT_CLASSES
from lib.core.archive import open_archive
from lib.core.errors import InputError
from lib.core.file_set import FileSet, escaped, open_folder
from lib.core.files import project_path
from lib.data.sample import make_sample

SPLITS = ("train", "test")
KAGGLE_DATASET = "birdy654/cifake-real-and-ai-generated-synthetic-images"

_FOLDERS = {*CLASSES, *map(str.upper, SPLITS)}
# An optional top folder, the split, the class, a name; the suffix "(k)" of the name is the object class.
_IMAGE_PATH = re.compile(
    r"(?P<top>(?:.*?/)?)(?P<split>train|test)/(?P<label>FAKE|REAL)/[^/]+?(?: \((?P<k>\d{1,9})\))?\.(?:jpe?g|png)",
    re.IGNORECASE | re.ASCII | re.DOTALL,
)


class ImageRecord(NamedTuple):
    """Describe an image: its path inside the source, its split, its class, its CIFAR-10 object class.

    The path is as `lib.core.file_set.escaped` writes it: it can be printed, whatever bytes the file's name holds.
    """

    file: str
    split: str
    label: int
    object_class: str


@dataclass(frozen=True)
class Source:
    """Hold the image records of a dataset in canonical order, and `read`, which returns the content of a file.

    The order is train before test, FAKE before REAL, then by file name in code-point order. Names of folders and
    extensions may be in any case. `ignored` counts the visible files that are not images of the dataset.
    """

    kind: str
    location: str
    records: tuple[ImageRecord, ...]
    read: Callable[[ImageRecord], bytes] = field(repr=False)
    ignored: int = 0


def open_source(name: str, sample_folder: Path) -> Source:
    """Open the dataset `name`: "sample", "kaggle", or the path of a folder or a zip.

    The sample is made in `sample_folder`, offline. Raises InputError if the source cannot be found or read, if an image
    of it cannot, or if one of train/FAKE, train/REAL, test/FAKE, test/REAL has no image.
    """
    if name == "sample":
        return _source("sample", make_sample(sample_folder))
    if name == "kaggle":
        return _source("kaggle", _download())
    path = project_path(name)
    if path.is_dir():
        return _source("folder", path)
    if path.is_file():
        return _source("zip", path)
    raise InputError(f"source {name!r}: there is no {path}; give a zip, a folder, 'sample' or 'kaggle'")


def source_state(source: str) -> str:
    """Return what changes when the data of `source` do: a digest of sizes and times, of a zip or of a folder's files.

    The pipeline packs a source again when its state differs. Empty for the sample and for Kaggle, which are determined
    by their names, and for a source that does not exist.
    """
    path = project_path(source)
    if source in ("sample", "kaggle") or not path.exists():
        return ""
    if path.is_dir():
        state = sorted((escaped(name), *state) for name, state in _list(path).states.items())
    else:
        state = [path.stat().st_size, path.stat().st_mtime_ns]
    return hashlib.sha256(repr(state).encode()).hexdigest()[:16]


def _list(path: Path) -> FileSet:
    if path.is_dir():
        return open_folder(path, _FOLDERS)
    return open_archive(path)


def _source(kind: str, path: Path) -> Source:
    """Find the images among the files at `path`, under one top folder at most."""
    files = _list(path)
    images: dict[str, tuple[str, re.Match[str]]] = {}
    for name in (*files.states, *files.unusable):
        if match := _match(name):
            images[match[0]] = name, match
    location = escaped(str(path))
    for name, _ in images.values():
        if name in files.unusable:
            raise InputError(f"{location}: {escaped(name)} {files.unusable[name]}")
    tops = {match["top"] for _, match in images.values()}
    if len(tops) > 1:
        raise InputError(
            f"{location} holds more than one dataset ({', '.join(sorted(map(escaped, tops)))}): give one of them"
        )
    names: dict[ImageRecord, str] = {}
    for name, match in images.values():
        file = escaped(match[0].removeprefix(match["top"]))
        split, label = match["split"].lower(), CLASSES.index(match["label"].upper())
        names[ImageRecord(file, split, label, _object_class(match["k"]))] = name
    present = {(record.split, record.label) for record in names}
    for split in SPLITS:
        for label, title in enumerate(CLASSES):
            if (split, label) not in present:
                reasons = [f"its {escaped(name)} {reason}" for name, reason in files.unusable.items()
                           if name.rpartition("/")[2].upper() in _FOLDERS]  # fmt: skip
                reasons.append("check that the dataset is complete")
                raise InputError(f"{location} has no image in {split}/{title}: {reasons[0]}")

    def order(record: ImageRecord) -> tuple[int, int, str, str]:
        return SPLITS.index(record.split), record.label, record.file.rpartition("/")[2], record.file

    ignored = len(files.states) - len(images)
    return Source(kind, location, tuple(sorted(names, key=order)), lambda record: files.read(names[record]), ignored)


def _match(name: str) -> re.Match[str] | None:
    """Match the path of an image, whose separators are slashes, or backslashes as some Windows programs write them."""
    for path in (name, name.replace("\\", "/")):
        normal = "/".join(part for part in path.split("/") if part not in ("", "."))
        if match := _IMAGE_PATH.fullmatch(normal):
            return match
    return None


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

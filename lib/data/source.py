"""Open a dataset from any source: the sample, a folder, a zip, or Kaggle. Later steps do not depend on which."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from lib import CLASSES, OBJECT_CLASSES
from lib.core.errors import InputError
from lib.core.file_set import escaped
from lib.core.files import project_path
from lib.core.labelled import SPLITS, LabelledFile, LabelledImages, open_files, open_labelled
from lib.core.sniff import is_meant_as_image
from lib.data.sample import make_sample

KAGGLE_DATASET = "birdy654/cifake-real-and-ai-generated-synthetic-images"
UNKNOWN = "unknown"  # the object class of an image that has none

# The names of CIFAKE's files: the suffix "(k)" is the object class.
_CIFAKE_NAME = re.compile(r"\d+(?: \((?P<k>\d{1,9})\))?\.\w+", re.ASCII)


class ImageRecord(NamedTuple):
    """Describe an image: its path inside the source, its split (empty: not split yet), its class, its object class.

    The path is as `lib.core.file_set.escaped` writes it: it can be printed, whatever bytes the file's name holds.
    """

    file: str
    split: str
    label: int
    object_class: str


@dataclass(frozen=True)
class Source:
    """Hold the image records of a dataset in canonical order, and `read`, which returns the content of a file.

    The order is train before test, FAKE before REAL, then by file name in code-point order. `ignored` counts the
    visible files that are not images of the dataset. `named_as_cifake` tells that all names are of CIFAKE's form.
    """

    kind: str
    location: str
    records: tuple[ImageRecord, ...]
    read: Callable[[ImageRecord], bytes] = field(repr=False)
    ignored: int = 0
    named_as_cifake: bool = True


def open_source(name: str, sample_folder: Path) -> Source:
    """Open the dataset `name`: "sample", "kaggle", or the path of a folder or a zip (in a layout of `open_labelled`).

    The sample is made in `sample_folder`, offline. A source with folders named train and test is split by them, any
    other has records without a split. All its sets are taken together. The object class of an image is that of its name
    where all names are CIFAKE's; else the first folder within that of the class, where both classes have it. Raises
    InputError as `open_labelled` does, if the source cannot be found, if an image of it cannot be read, if an image
    lies beside train and test, or if a class has no image (in train, or in test).
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
        state = sorted((escaped(name), *state) for name, state in open_files(path).states.items())
    else:
        state = [path.stat().st_size, path.stat().st_mtime_ns]
    return hashlib.sha256(repr(state).encode()).hexdigest()[:16]


def _source(kind: str, path: Path) -> Source:
    images = open_labelled(path)
    for name, reason in images.unusable.items():
        if is_meant_as_image(name, lambda: b""):
            raise InputError(f"{images.location}: {escaped(name)} {reason}")
    files = {"/".join(file.parts): file for own in images.sets.values() for file in own}
    _check_splits(images, list(files.values()))
    named_as_cifake, object_classes = _object_classes(list(files.values()))
    names: dict[ImageRecord, str] = {}
    for file, object_class in zip(files.values(), object_classes, strict=True):
        inside = escaped("/".join(file.parts[images.shared :]))
        names[ImageRecord(inside, file.split, file.label, object_class)] = file.name

    def order(record: ImageRecord) -> tuple[bool, int, str, str]:
        return record.split == SPLITS[1], record.label, record.file.rpartition("/")[2], record.file

    ignored = len(images.skipped) + len(images.outside)
    records = tuple(sorted(names, key=order))
    return Source(kind, images.location, records, lambda it: images.read(names[it]), ignored, named_as_cifake)


def _check_splits(images: LabelledImages, files: Sequence[LabelledFile]) -> None:
    """Raise InputError for images beside train and test, and for a class without an image, in either."""
    present = {(file.split, file.label) for file in files}
    splits = {split for split, _ in present}
    if "" in splits and len(splits) > 1:
        beside = next(file for file in files if not file.split)
        raise InputError(
            f"{images.location}: {escaped(beside.name)} lies in neither train nor test, as other images do: "
            "move it into one of them, or remove it"
        )
    for split in [""] if splits == {""} else SPLITS:
        for label, title in enumerate(CLASSES):
            if (split, label) not in present:
                reasons = [f"its {escaped(name)} {reason}" for name, reason in images.unusable_folders.items()]
                reasons.append("check that the dataset is complete")
                where = f"in {split}/{title}" if split else f"of {title}"
                raise InputError(f"{images.location} has no image {where}: {reasons[0]}")


def _object_classes(files: Sequence[LabelledFile]) -> tuple[bool, list[str]]:
    """Return whether all names have CIFAKE's form, some with a suffix, and the object class of each file."""
    matches = [_CIFAKE_NAME.fullmatch(file.parts[-1]) for file in files]
    if all(matches) and any(match["k"] for match in matches):
        return True, [_by_suffix(match["k"]) for match in matches]
    inner = [file.parts[file.depth + 1] if len(file.parts) > file.depth + 2 else UNKNOWN for file in files]
    by_class = ({name for name, file in zip(inner, files, strict=True) if file.label == label} for label in (0, 1))
    common = set.intersection(*by_class)
    return False, [escaped(name) if name in common else UNKNOWN for name in inner]


def _by_suffix(suffix: str | None) -> str:
    number = int(suffix or 1)
    return OBJECT_CLASSES[number - 1] if 1 <= number <= len(OBJECT_CLASSES) else UNKNOWN


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

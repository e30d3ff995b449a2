# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 · Data
# Open the data set, verify it, split validation off the training images, and pack it for every later step.
#
# **Reads** a source: the sample that the project makes itself, or CIFAKE as a folder, a zip or from Kaggle.
# **Writes** the packed dataset: `images.npy`, `records.csv` with one row an image, and `metadata.json`.
# **Takes** 20 s on the sample; on all of CIFAKE half a minute.

# %% tags=["parameters"]
source = "sample"  # type: str sample, kaggle, or the path of a folder or a zip
image_size = 32  # type: int side of the network's input in pixels: a multiple of 16 up to 256
resize = "resize"  # type: str what fits images of another size: resize (and JPEG), crop (the centre), or random_crop
val_fraction = 0.1  # type: float fraction of the training images held out for validation
test_fraction = 0.2  # type: float fraction of the images held out for testing, where the source has no split of its own
split_seed = 0  # type: int seed of the splits
workers = 2  # type: int processes that decode the images
source_state = ""  # type: str digest of the source's sizes and times, set by the pipeline: other data make this step outdated
lib_hash = ""  # type: str hash of the modules used, set by the pipeline: an edit in lib makes this step outdated
upstream = {}  # type: dict nothing comes before
product = {"nb": "outputs/sample/01_data/01_data.ipynb", "dataset": "outputs/sample/01_data/dataset/metadata.json"}  # type: dict

# %%
from lib.core.parameters import validate_parameters

validate_parameters("01_data", globals())

# %%
import pandas as pd
from IPython.display import Markdown

from lib import CLASSES
from lib.core.files import project_path
from lib.core.rows import ImageRows
from lib.data.packing import pack_dataset
from lib.data.source import open_source
from lib.data.spectrum import mean_power_spectrum
from lib.plots import data as data_plots
from lib.plots.style import use_style

use_style()

# %% [markdown]
# ## Open and pack
# Opening lists the images in their canonical order. Packing decodes each image once, checks it, and finds its
# duplicates: images with the same pixels.

# %%
folder = project_path(product["dataset"]).parent
opened = open_source(source, folder.parent / "source")
print(f"{len(opened.records):,} images in a source of kind {opened.kind!r}")

# %%
sizes = {"image_size": image_size, "resize": resize}
dataset = pack_dataset(opened, folder, val_fraction, split_seed, workers, **sizes, test_fraction=test_fraction)
metadata = dataset.metadata
print(f"Data: {metadata['data']}")

# %% [markdown]
# ## What is in it
# *Distinct* counts images that differ in at least one pixel.

# %%
pd.DataFrame(
    {"images": metadata["counts"], "distinct": metadata["distinct"], "duplicates": metadata["duplicates_within"]}
)

# %%
data_plots.counts(dataset.records)

# %%
Markdown(dataset.balance())

# %%
converted = ", ".join(f"{n} of mode {mode}" for mode, n in metadata["converted"].items()) or "none"
if "CIFAKE" in metadata["data"]:
    print(f"Pixel checksums are those of CIFAKE: {'yes' if metadata['verified'] else 'no'}")
print(f"Converted to RGB: {converted}; files that are not images: {metadata['ignored_files']}")
print(f"Images of another size than {image_size}×{image_size}: {metadata['other_sizes']:,}, by {resize!r}")

# %% [markdown]
# ## Examples

# %%
train = dataset.indices("train")
shuffled = dataset.records.loc[train].sample(frac=1, random_state=0)
shown = shuffled.groupby("label").head(16).sort_values("label").index.to_numpy()
data_plots.examples(dataset.images[shown], dataset.records["label"].to_numpy()[shown])

# %% [markdown]
# At this size people find few clear errors. Most traces of a generator are finer than what we notice.

# %% [markdown]
# ## Duplicates
# A network can memorise a test image that is also a training image: the image is leaked. So every test metric is
# reported twice: on all test images, and without the leaked ones.

# %%
duplicates = dataset.records[dataset.records["duplicate_of"] != dataset.records.index]
print(f"{metadata['test_leaked']:,} test images are pixel-identical to a training image")
print(
    f"{metadata['label_conflicts']:,} images are in both classes, and left out of every split",
    *metadata["excluded"][:20],
)

# %%
leaks = duplicates[duplicates["leaked"]].head(12)
images = dataset.images[leaks[["duplicate_of"]].assign(own=leaks.index).to_numpy()]
titles = [f"{dataset.records['file'][row.duplicate_of]}\n{row.file}" for row in leaks.itertuples()]
data_plots.pairs(images, titles)

# %% [markdown]
# Left: the training image. Right: the test image with the same pixels.

# %% [markdown]
# ## Colour
# Every network normalises its input by the mean and the standard deviation of each channel over the training images.

# %%
pd.DataFrame({"mean": metadata["mean"], "std": metadata["std"]}, index=["red", "green", "blue"])

# %% [markdown]
# ## Spectrum
# The mean power at each spatial frequency, over at most 10,000 training images a class.

# %%
labels = dataset.records["label"].to_numpy()
spectra = {
    name: mean_power_spectrum(ImageRows(dataset.images, train[labels[train] == label][:10_000]))
    for label, name in enumerate(CLASSES)
}
data_plots.power_spectra(spectra)

# %% [markdown]
# The spectra differ at high frequencies, and their ratio has a structure in two dimensions: a network can separate
# the classes by texture.

# %% [markdown]
# ## Checks

# %%
held_out = dataset.records["split"] == "val"
assert not set(dataset.records.loc[held_out, "duplicate_of"]) & set(dataset.records.loc[train, "duplicate_of"]), (
    "a duplicate on both sides of the split"
)
fraction = held_out.sum() / (held_out.sum() + len(train))
whole_groups = (
    duplicates["split"].isin(["train", "val"]).sum()
)  # duplicates stay together, so a group may be too large to fit
assert abs(held_out.sum() - val_fraction * (held_out.sum() + len(train))) <= len(CLASSES) + whole_groups, fraction
assert metadata["label_conflicts"] == 0 or metadata["data"] != "CIFAKE"
print(f"{len(train):,} to train on, {held_out.sum():,} for validation, {len(dataset.indices('test')):,} to test on")

# %% [markdown]
# Next: [02_train](02_train.ipynb) trains a network on this dataset.

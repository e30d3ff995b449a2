# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 · Data
# Open the data set, verify it, cut validation from train, and pack it for every later step.
#
# **Reads** a source: the sample that the project makes itself, or CIFAKE as a folder, a zip or from Kaggle.
# **Writes** the pack: pixels, a table with one row an image, and what is known of the whole.
# **Takes** 20 s on the sample; on all of CIFAKE half a minute.

# %% tags=["parameters"]
source = "sample"  # type: str sample, kaggle, or the path of a folder or a zip
val_fraction = 0.1  # type: float share of the training images that is held out for validation
split_seed = 0  # type: int seed of that choice
workers = 2  # type: int processes that decode images
lib_hash = ""  # type: str set by the pipeline, so that an edit in lib makes this step stale
upstream = {}  # type: dict nothing comes before
product = {"nb": "outputs/sample/01_data/01_data.ipynb", "pack": "outputs/sample/01_data/pack/pack.json"}  # type: dict

# %%
from lib.parameters import check

check("01_data", globals())

# %%
import pandas as pd

from lib import CLASSES, plots
from lib.files import project_path
from lib.packing import build_pack
from lib.source import open_source
from lib.spectrum import mean_power_spectrum

plots.use_style()

# %% [markdown]
# ## Open and pack
# Opening lists the images in their canonical order. Packing decodes each once, checks it, and finds its twins: images
# with the same pixels.

# %%
pack_folder = project_path(product["pack"]).parent
opened = open_source(source, pack_folder.parent / "source")
print(f"{len(opened.members):,} images in a source of kind {opened.kind!r}")

# %%
pack = build_pack(opened, pack_folder, val_fraction, split_seed, workers)
facts = pack.facts
print(f"Data: {facts['data']}")

# %% [markdown]
# ## What is in it
# *Distinct* counts images that differ in at least one pixel.

# %%
pd.DataFrame({"images": facts["counts"], "distinct": facts["distinct"], "twins inside": facts["twins_inside"]})

# %%
plots.counts(pack.index)

# %% [markdown]
# Both classes, and all ten object classes in them, have the same number of images: accuracy is a fair summary, and 50 %
# is what guessing gets.

# %%
converted = ", ".join(f"{n} of mode {mode}" for mode, n in facts["converted"].items()) or "none"
if facts["source"] != "sample":
    print(f"Pixel checksums are those of CIFAKE: {'yes' if facts['verified'] else 'no'}")
print(f"Converted to RGB: {converted}; files that are not images: {facts['ignored_files']}")

# %% [markdown]
# ## Examples

# %%
train = pack.rows("train")
shown = pack.index.loc[train].groupby("label").sample(16, random_state=0).index.to_numpy()
plots.examples(pack.images[shown], pack.index["label"].to_numpy()[shown])

# %% [markdown]
# At this size the eye finds few clear errors. What gives a generator away is mostly finer than what we look at.

# %% [markdown]
# ## Twins
# A test image that is also in train can be learnt by heart, so every test figure is given twice: on all test images,
# and on those that are not in train.

# %%
twins = pack.index[pack.index["twin"] != pack.index.index]
print(f"{facts['test_in_train']:,} test images are pixel-identical to a training image")
print(f"{facts['in_both_classes']:,} images are in both classes")

# %%
leaks = twins[twins["in_train"]].head(12)
images = pack.images[leaks[["twin"]].assign(own=leaks.index).to_numpy()]
titles = [f"{pack.index['file'][row.twin]}\n{row.file}" for row in leaks.itertuples()]
plots.pairs(images, titles)

# %% [markdown]
# Left the training image, right its copy in test.

# %% [markdown]
# ## Colour
# The mean and the standard deviation of each channel over the training images normalise the input of every network.

# %%
pd.DataFrame({"mean": facts["mean"], "std": facts["std"]}, index=["red", "green", "blue"])

# %% [markdown]
# ## Spectrum
# The mean power at each spatial frequency, over at most 10,000 training images a class.

# %%
labels = pack.index["label"].to_numpy()
spectra = {
    name: mean_power_spectrum(pack.images[train[labels[train] == label][:10_000]]) for label, name in enumerate(CLASSES)
}
plots.power_spectra(spectra)

# %% [markdown]
# The curves part towards fine detail, and the ratio has a structure in two dimensions: a network that sees texture can
# tell the classes apart.

# %% [markdown]
# ## Checks

# %%
held_out = pack.index["split"] == "val"
assert not set(pack.index.loc[held_out, "twin"]) & set(pack.index.loc[train, "twin"]), "a twin on both sides"
share = held_out.sum() / (held_out.sum() + len(train))
assert abs(share - val_fraction) < 0.02, f"validation is {share:.1%} of train"
assert facts["in_both_classes"] == 0 or facts["data"] != "CIFAKE"
print(f"{len(train):,} to train on, {held_out.sum():,} for validation, {len(pack.rows('test')):,} to test on")

# %% [markdown]
# Next: [02_train](02_train.ipynb) trains a network on the pack.

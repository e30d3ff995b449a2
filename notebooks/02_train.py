# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 · Train
# Train one network on the pack and keep the epoch with the best validation accuracy.
#
# **Reads** the pack of [01_data](01_data.ipynb).
# **Writes** `weights.safetensors`, `history.csv`, `run.json`, and checkpoints from which a killed run goes on.
# **Takes** 40 s on the sample; on CIFAKE two minutes on a GPU, some three hours on two cores.

# %% tags=["parameters"]
network = "texture_net"  # type: str a name from lib.networks
epochs = 8  # type: int
batch_size = 128  # type: int images a step
muon_rate = 0.1  # type: float peak step of Muon on the filters (0: AdamW moves everything)
learning_rate = 0.004  # type: float peak rate of AdamW on the rest
weight_decay = 0.02  # type: float of AdamW, on convolutions and linear layers
dropout = 0.0  # type: float before the last layer
label_smoothing = 0.0  # type: float
flip = True  # type: bool mirror half of the training images
shift = 2  # type: int move training images by up to so many pixels
degrade = 0.0  # type: float share of training images made worse by noise, JPEG or blur
erase = 0  # type: int side of the square made grey in each training image
cutmix = 0.0  # type: float share of training images a part of which is another's
object_weight = 0.0  # type: float of the object class, learnt beside the label (0: not learnt, 1: as much as the label)
mirror = True  # type: bool answer with the mean over an image and its mirror image
train_images = 0  # type: int train on so many images of a fixed random choice (0: all)
epoch_share = 1.0  # type: float share of them that an epoch sees: the hardest, and others by chance
seed = 0  # type: int of the weights, the order and the augmentation
precision = "float32"  # type: str float32 or bfloat16
accelerator = "auto"  # type: str auto, cpu or gpu
threads = 0  # type: int on the CPU (0: as many as there are cores)
devices = 1  # type: int of each machine: GPUs, or processes on the CPU
num_nodes = 1  # type: int machines
strategy = "auto"  # type: str Lightning's, for several devices
wandb = "auto"  # type: str auto (online with WANDB_API_KEY, else offline), online, offline or disabled
lib_hash = ""  # type: str set by the pipeline, so that an edit in lib makes this step stale
upstream = {"01_data": {"pack": "outputs/sample/01_data/pack/pack.json"}}  # type: dict
product = {"nb": "outputs/sample/02_train/02_train.ipynb", "run": "outputs/sample/02_train/run.json"}  # type: dict

# %%
from lib.parameters import check

check("02_train", globals())

# %%
from dataclasses import fields

import pandas as pd

from lib import plots
from lib.files import project_path, read_json
from lib.pack import open_pack
from lib.settings import Settings
from lib.training import train

plots.use_style()

# %% [markdown]
# ## What we train

# %%
settings = Settings(**{field.name: globals()[field.name] for field in fields(Settings)})
pack = open_pack(project_path(upstream["01_data"]["pack"]).parent)
print(f"Data: {pack.facts['data']}, {len(pack.rows('train')):,} to train on, {len(pack.rows('val')):,} for validation")

# %% [markdown]
# ## Train

# %%
folder = project_path(product["run"]).parent
trained = train(pack, settings, folder, wandb)
trained

# %% [markdown]
# ## What came out

# %%
history = pd.read_csv(folder / "history.csv")
history.drop(columns="seconds").round(4)

# %%
plots.history(history)

# %% [markdown]
# Where the two accuracies part, the network begins to learn its training images by heart.

# %%
run = read_json(folder / "run.json")
print(f"{run['network_parameters']:,} parameters, {run['macs'] / 1e6:.1f} million multiply-accumulates an image")
print(f"Best epoch {run['best_epoch']}: validation accuracy {100 * run['val_acc']:.2f} %, loss {run['val_loss']:.4f}")
print(f"Trained in {run['train_seconds']:.0f} s on {run['device']} with {run['threads']} threads")

# %% [markdown]
# ## Checks

# %%
assert history["epoch"].tolist() == list(range(1, epochs + 1))
assert history["train/loss"].iloc[-1] < history["train/loss"].iloc[0] or epochs == 1, "the loss did not fall"
assert run["val_acc"] == history["val/acc"].max()

# %% [markdown]
# Next: [03_sweep](03_sweep.ipynb) tries other parameters, [04_evaluate](04_evaluate.ipynb) judges this network.

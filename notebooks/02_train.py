# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 · Train
# Train one network and keep the epoch with the best validation accuracy.
#
# **Reads** the packed dataset of [01_data](01_data.ipynb).
# **Writes** `weights.safetensors`, `history.csv`, `run.json`, and checkpoints from which an interrupted run resumes.
# **Takes** 40 s on the sample; on CIFAKE two minutes on a GPU, some three hours on two cores.

# %% tags=["parameters"]
network = "texture_net"  # type: str a name from lib.models.networks
epochs = 8  # type: int
batch_size = 128  # type: int images a step, on all devices together
muon_lr = 0.1  # type: float peak learning rate of Muon on the convolution filters (0: the optimizer for everything)
lr = 0.004  # type: float peak learning rate of the optimizer on all other parameters
weight_decay = 0.02  # type: float weight decay of the optimizer, on convolutions and linear layers
optimizer = "adamw"  # type: str adamw, or sgd with Nesterov momentum and muon_lr 0
schedule = "one_cycle"  # type: str of the learning rates: one_cycle, or constant at their peaks
dropout = 0.0  # type: float dropout probability before the last layer
label_smoothing = 0.0  # type: float probability mass spread over both classes
flip = True  # type: bool random horizontal flip, probability 0.5
translate = 2  # type: int random translation by up to so many pixels in each direction
corruption_prob = 0.0  # type: float probability that a training image is corrupted by noise, JPEG or blur
cutout_size = 0  # type: int side of the Cutout square in pixels (0: no Cutout)
cutmix_prob = 0.0  # type: float probability of CutMix
aux_loss_weight = 0.0  # type: float weight of the auxiliary object-class target (0: none, 1: as much as the label)
hflip_tta = True  # type: bool horizontal-flip test-time augmentation, inside the network
max_train_samples = 0  # type: int size of the random training subset (0, or more than there are: all images)
sample_fraction = 1.0  # type: float fraction of the training images in an epoch, by hard-example sampling
seed = 0  # type: int seed of the weights, the order and the augmentation
precision = "float32"  # type: str of training: float32 or bfloat16
accelerator = "auto"  # type: str auto, cpu or gpu
threads = 0  # type: int CPU threads (0: one a usable core)
devices = 1  # type: int devices of each machine: GPUs, or processes on the CPU
num_nodes = 1  # type: int number of machines
strategy = "auto"  # type: str Lightning's strategy for several devices
wandb = "auto"  # type: str auto (WANDB_MODE, else online with WANDB_API_KEY, else offline), online, offline or disabled
lib_hash = ""  # type: str hash of the modules used, set by the pipeline: an edit in lib makes this step outdated
upstream = {"01_data": {"dataset": "outputs/sample/01_data/dataset/metadata.json"}}  # type: dict
product = {"nb": "outputs/sample/02_train/02_train.ipynb", "run": "outputs/sample/02_train/run.json"}  # type: dict

# %%
from lib.core.parameters import validate_parameters

validate_parameters("02_train", globals())

# %%
from dataclasses import fields

import pandas as pd

from lib.core.files import project_path, read_json
from lib.data.dataset import open_dataset
from lib.plots import training as training_plots
from lib.plots.style import use_style
from lib.training.settings import Settings
from lib.training.train import train

use_style()

# %% [markdown]
# ## What we train

# %%
settings = Settings(**{field.name: globals()[field.name] for field in fields(Settings)})
dataset = open_dataset(project_path(upstream["01_data"]["dataset"]).parent)
num_train, num_val = (len(dataset.indices(split)) for split in ("train", "val"))
print(f"Data: {dataset.metadata['data']}, {num_train:,} to train on, {num_val:,} for validation")

# %% [markdown]
# ## Train

# %%
folder = project_path(product["run"]).parent
trained = train(dataset, settings, folder, wandb)
trained

# %% [markdown]
# ## Result

# %%
history = pd.read_csv(folder / "history.csv")
history.drop(columns="seconds").round(4)

# %%
training_plots.history(history)

# %% [markdown]
# Where training and validation accuracy diverge, the network begins to overfit.

# %%
run = read_json(folder / "run.json")
print(f"{run['network_parameters']:,} parameters, {run['macs'] / 1e6:.1f} million MACs an image")
print(f"Best epoch {run['best_epoch']}: validation accuracy {100 * run['val_acc']:.2f} %, loss {run['val_loss']:.4f}")
print(f"Trained in {run['train_seconds']:.0f} s on {run['device']} with {run['threads']} threads")

# %% [markdown]
# ## Checks

# %%
assert history["epoch"].tolist() == list(range(1, epochs + 1))
assert run["val_acc"] == history["val/acc"].max()

# %% [markdown]
# Next: [03_sweep](03_sweep.ipynb) tries other parameters, [04_evaluate](04_evaluate.ipynb) evaluates this network.

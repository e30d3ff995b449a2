# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 · Train
# **How does a small network learn to tell the classes apart, and how well does it do on images it was not trained on?**
#
# Train one network and keep the epoch with the best validation accuracy; before that, look at all that the training does.
#
# **Reads** the packed dataset of [01_data](01_data.ipynb).
# **Writes** `weights.safetensors`, `history.csv`, `run.json`, and checkpoints from which an interrupted run resumes.
# **Takes** half a minute on the sample; on CIFAKE half an hour on two cores; by the released recipe three, or two minutes on a GPU.

# %% tags=["parameters"]
network = "texture_net_light"  # type: str a name from lib.models.networks
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
figures = True  # type: bool show what the training does before it does it (False in the trials of a sweep)
wandb = "auto"  # type: str auto (WANDB_MODE, else online with WANDB_API_KEY, else offline), online, offline or disabled
lib_hash = ""  # type: str hash of the modules used, set by the pipeline: an edit in lib makes this step outdated
upstream = {"01_data": {"dataset": "outputs/sample/01_data/dataset/metadata.json"}}  # type: dict
product = {"nb": "outputs/sample/02_train/02_train.ipynb", "run": "outputs/sample/02_train/run.json"}  # type: dict

# %%
from lib.core.parameters import validate_parameters

validate_parameters("02_train", globals())

# %%
from dataclasses import fields

import numpy as np
import pandas as pd
from IPython.display import Markdown, display

from lib.core.files import project_path, read_json
from lib.data.dataset import open_dataset
from lib.data.preview import augmentation_steps
from lib.models.networks import build_network
from lib.models.summary import layers, whitened_patterns
from lib.plots import live as live_plots
from lib.plots import training as training_plots
from lib.plots.style import use_style

# %%
from lib.training.data_module import PackedDataModule
from lib.training.hard_examples import last_losses
from lib.training.schedule import learning_rates
from lib.training.settings import Settings
from lib.training.train import train

use_style()

# %%
settings = Settings(**{field.name: globals()[field.name] for field in fields(Settings)})
dataset = open_dataset(project_path(upstream["01_data"]["dataset"]).parent)
data = PackedDataModule(dataset, settings)
num_train, num_val = (len(dataset.indices(split)) for split in ("train", "val"))
print(f"Data: {dataset.metadata['data']}, {num_train:,} to train on, {num_val:,} for validation")

# %% [markdown]
# ## Augmentation
# A network that sees the same images in every epoch learns them by heart. So each epoch changes them, and keeps the
# answer: a flip, a shift by a pixel or two, a corruption as cameras cause it. Cutout hides a square, so that no single
# spot decides; CutMix pastes a box of another image and mixes the labels. Each row shows one step alone, the last row
# what the network gets; steps switched off are not shown. Fine texture must survive in most images: it
# separates the classes.

# %%
if figures:
    images, labels = data.first_tensors(10)
    steps = augmentation_steps(images, labels, settings.augmentation(dataset.image_size), settings.cutmix_prob)
    display(training_plots.augmentations(steps))

# %% [markdown]
# ## The network
# Each block is a layer: as high as its feature map, wider with more channels; green ones multiply. Below each are the
# shape of its output, its multiply-accumulates (MACs) an image and its parameters. A stem of stride 2 keeps the later
# layers cheap: the same 3×3 convolution costs a quarter on a map of half the side. Squeeze-and-excitation scales each
# channel by the content of the whole image. An ensemble has several such networks, of which the first is drawn; flip
# TTA runs each twice.

# %%
if figures:
    objects = dataset.object_classes()[1] if aux_loss_weight else 0
    mean, std = dataset.metadata["mean"], dataset.metadata["std"]
    untrained = build_network(network, mean, std, num_object_classes=objects, image_size=dataset.image_size)
    untrained.init_whitening(data.first_images())
    display(training_plots.network(layers(untrained)))

# %% [markdown]
# ## Whitened filters
# The stem's filters see patches of 4×4 pixels. Neighbouring pixels are so alike that nearly all of a patch's variance is in
# a few smooth patterns, and the fine ones, which separate the classes, are some hundred times weaker. Gradient descent learns
# along strong directions first. Whitening (as in Myrtle 2018 and airbench, arXiv 2404.00498) finds the patterns as the
# eigenvectors of the patches' covariance, divides each by its standard deviation, and lets the filters be learnt in that
# basis, where all are equally strong.

# %%
if figures and (patterns := whitened_patterns(untrained)):
    display(training_plots.whitened_filters(*patterns))

# %% [markdown]
# ## Learning rate
# Convolutions are optimised by Muon, which makes every update a near-orthogonal matrix, so that rare directions advance as
# fast as common ones (Jordan 2024); all else by AdamW or SGD. The rate of each rises for a tenth of the steps, while the
# weights are still random and large steps would diverge, and then falls to near zero: large steps explore, small ones
# settle.

# %%
images_per_epoch = round(settings.sample_fraction * len(data.train_indices))
if figures:
    peaks = {"muon_lr": settings.muon_lr, "lr": settings.lr}
    rates = learning_rates(peaks, settings.schedule, epochs * -(-images_per_epoch // batch_size))
    display(training_plots.schedule(rates, epochs))

# %% [markdown]
# ## Train
# The curves are drawn while the network trains. Both losses are the cross-entropy of the same target, the label, without
# the auxiliary one, and can be compared. But the training images are augmented, and validation images are not: with strong
# augmentation the training accuracy can lie below the validation accuracy from the first epoch on, and that is no
# error. Overfitting shows as a validation loss that rises while the training loss still falls.

# %%
folder = project_path(product["run"]).parent
live = live_plots.LiveFigure(live_plots.learning_curves)
trained = train(dataset, settings, folder, wandb, on_epoch=live if figures else None)
history = pd.read_csv(folder / "history.csv")
live.finish(history)

# %%
history.drop(columns="seconds").round(4)

# %% [markdown]
# ## Which examples are hard
# The loss of each training image, as it was last computed in training. On the left, the hardest per cent and tenth: the loss
# above which they lie. Most images are learnt early and give hardly any gradient. Hard-example sampling
# (`sample_fraction` below 1) therefore fills two fifths of an epoch with the hardest images and draws the others at random,
# weighted so that the expected gradient stays that of all images (as InfoBatch does, arXiv 2303.04947).

# %%
losses = last_losses(folder / "checkpoints", len(data.train_indices)).numpy()
seen = np.isfinite(losses)
if figures and seen.any():
    chosen = data.train_indices[seen]
    labels = dataset.records["label"].to_numpy()[chosen]
    display(training_plots.hard_examples(dataset.images, chosen, labels, losses[seen]))

# %% [markdown]
# ## Checks

# %%
run = read_json(folder / "run.json")
assert history["epoch"].tolist() == list(range(1, epochs + 1))
assert run["val_acc"] == history["val/acc"].max()
print(f"Trained in {run['train_seconds']:.0f} s on {run['device']} with {run['threads']} threads")

# %% [markdown]
# ## Answer

# %%
last, best = history.iloc[-1], history.iloc[run["best_epoch"] - 1]
hard = np.sort(losses[seen])[::-1]
share = hard[: max(1, len(hard) // 10)].sum() / max(hard.sum(), 1e-12)
Markdown(
    f"On {dataset.metadata['data']}, {run['network_parameters']:,} parameters and {run['macs'] / 1e6:.1f} million MACs an "
    f"image classify {100 * run['val_acc']:.2f} % of {num_val:,} validation images correctly (loss {run['val_loss']:.4f}), "
    f"after epoch {run['best_epoch']} of {epochs}. In the last epoch the training loss is {last['train/loss']:.4f} and the "
    f"validation loss {last['val/loss']:.4f}; the hardest tenth of the training images has {100 * share:.0f} % of the loss."
)

# %% [markdown]
# ## Two things to try
# 1. Set `muon_lr` to 0, so that AdamW optimises the convolutions too. How many epochs does it need for the same accuracy?
# 2. Set `cutmix_prob` to 0.5 and `cutout_size` to 12. What becomes of the distance between both curves, and of the best
#    validation accuracy? Try it again with four times the epochs.
#
# Next: [03_sweep](03_sweep.ipynb) tries other parameters, [04_evaluate](04_evaluate.ipynb) evaluates this network.

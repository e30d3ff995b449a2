# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 05 · Compare with VGG16
# Train the earlier project's network and VGG16-BN on the same images, and set them beside ours on the same test images.
#
# **Reads** the pack of [01_data](01_data.ipynb), the run of [02_train](02_train.ipynb), the predictions of
# [04_evaluate](04_evaluate.ipynb).
# **Writes** a run and predictions for each of the others, and `comparison.json`.
# **Takes** a minute on the sample; on CIFAKE three quarters of an hour on two cores.

# %% tags=["parameters"]
rival_images = 600  # type: int train the others on so many images of a fixed random choice (0: all)
rival_batch_size = 128  # type: int
earlier_epochs = 5  # type: int of the earlier project's network
earlier_learning_rate = 0.004  # type: float
vgg_epochs = 3  # type: int
vgg_learning_rate = 0.001  # type: float from random weights
vgg_tuning_rate = 0.0003  # type: float from ImageNet's weights
vgg_weights = ""  # type: str those weights: a file of torchvision's vgg16_bn, or download
accelerator = "auto"  # type: str auto, cpu or gpu
threads = 0  # type: int on the CPU (0: as many as there are cores)
wandb = "auto"  # type: str auto (online with WANDB_API_KEY, else offline), online, offline or disabled
lib_hash = ""  # type: str set by the pipeline, so that an edit in lib makes this step stale
upstream = {"01_data": {"pack": "outputs/sample/01_data/pack/pack.json"}, "02_train": {"run": "outputs/sample/02_train/run.json", "weights": "outputs/sample/02_train/weights.safetensors"}, "04_evaluate": {"predictions": "outputs/sample/04_evaluate/predictions.csv"}}  # type: dict  # fmt: skip
product = {"nb": "outputs/sample/05_compare_vgg/05_compare_vgg.ipynb", "comparison": "outputs/sample/05_compare_vgg/comparison.json"}  # type: dict  # fmt: skip

# %%
from lib.parameters import check

check("05_compare_vgg", globals())

# %%
import pandas as pd
import torch
from IPython.display import Markdown, display

from lib import plots, plots_robustness
from lib.compare import comparison_table, conclusion, judge, verdict
from lib.errors import InputError
from lib.files import project_path, read_json, write_json
from lib.pack import open_pack
from lib.predictions import load_predictions, predict, save_predictions
from lib.pretrained import fit_frozen, imagenet_weights
from lib.settings import Settings
from lib.training import train
from lib.weights import load_weights

plots.use_style()

# %% [markdown]
# ## One protocol
# Split, images, moves and schedule are ours. The budget, and AdamW with its rate, are their own; they see whole epochs of clean,
# whole images, learn the label alone, and answer from one view.

# %%
pack = open_pack(project_path(upstream["01_data"]["pack"]).parent)
our_run = read_json(project_path(upstream["02_train"]["run"]))
own = {"train_images": rival_images, "batch_size": rival_batch_size, "muon_rate": 0.0, "mirror": False}
plain = {"epoch_share": 1.0, "degrade": 0.0, "erase": 0, "cutmix": 0.0, "object_weight": 0.0}
common = our_run["parameters"] | own | plain | {"accelerator": accelerator, "threads": threads}
earlier = {
    "network": "plain_64_128",
    "epochs": earlier_epochs,
    "learning_rate": earlier_learning_rate,
    "dropout": 0.158,
}
scratch = {"network": "vgg16_bn", "epochs": vgg_epochs, "learning_rate": vgg_learning_rate}
tuned = {"network": "vgg16_bn", "epochs": vgg_epochs, "learning_rate": vgg_tuning_rate}

# %% [markdown]
# ## Train
# The earlier project's network has two convolutions, of 64 and 128 channels, and its dropout.

# %%
folder = project_path(product["comparison"]).parent
folders = {"earlier project": folder / "earlier", "VGG16-BN": folder / "vgg"}
for place, recipe in zip(folders.values(), (earlier, scratch), strict=True):
    train(pack, Settings(**common | recipe), place, wandb)
    display(plots.history(pd.read_csv(place / "history.csv")))

# %% [markdown]
# VGG16-BN once more, with ImageNet's weights where they can be had: all of it trained on, and with its convolutions frozen.

# %%
tuned_name, frozen_name, unavailable = "VGG16-BN, ImageNet, tuned", "VGG16-BN, ImageNet, frozen", {}
try:
    start = imagenet_weights(vgg_weights)
    folders |= {tuned_name: folder / "tuned", frozen_name: folder / "frozen"}
    train(pack, Settings(**common | tuned), folders[tuned_name], wandb, start=start)
    fit_frozen(pack, start, Settings(**common | tuned), folders[frozen_name])
except InputError as error:
    unavailable = dict.fromkeys((tuned_name, frozen_name), str(error))
print(*(f"{name}: {reason}" for name, reason in unavailable.items()), sep="\n")

# %% [markdown]
# ## Predict once

# %%
our_weights = project_path(upstream["02_train"]["weights"])
tables = {"ours": load_predictions(project_path(upstream["04_evaluate"]["predictions"]), pack, our_weights)}
for name, place in folders.items():
    weights = place / "weights.safetensors"
    table, _ = predict(load_weights(weights), pack, ("val", "test"), accelerator)
    save_predictions(place / "predictions.csv", table, pack, weights)
    tables[name] = load_predictions(place / "predictions.csv", pack, weights)

# %% [markdown]
# ## Side by side
# Latency is the median of 100 calls with one image, or 5 with 256, of eager PyTorch in a fresh process on the CPU; memory is
# what the largest resident set of that process grew by. The difference is McNemar's, over images that one alone has right.

# %% tags=["nbval-ignore-output"]
networks = {
    name: judge(table, tables["ours"], (folders[name] / "weights.safetensors") if name in folders else our_weights,
                torch.get_num_threads())
    for name, table in tables.items()
}  # fmt: skip
comparison_table(networks, unavailable, len(pack.rows("train")))

# %%
rows = {name: {"macs": entry["run"]["macs"], "accuracy": entry["figures"]["test"]["accuracy"]}
        for name, entry in networks.items()}  # fmt: skip
plots_robustness.cost_and_accuracy(rows, published=pack.facts["data"] == "CIFAKE")

# %% [markdown]
# Up is better, left is cheaper. Open marks are what others published; those of ImageNet see 224×224 pixels.

# %% [markdown]
# ## What follows

# %% tags=["nbval-ignore-output"]
Markdown("\n".join(f"- {sentence}" for sentence in conclusion(networks, pack.facts["data"])))

# %% [markdown]
# ## Checks

# %%
for name, entry in networks.items():
    test, own = entry["mcnemar"], entry["figures"]["test"]["accuracy"]["value"]
    assert abs(networks["ours"]["figures"]["test"]["accuracy"]["value"] - own - test["difference"]) < 1e-9
    assert entry["run"]["data"]["checksums"] == pack.facts["checksums"], f"{name} was trained on other data"
    assert (verdict(test) == "no difference is shown") == (test["low"] <= 0 <= test["high"])
content = {"data": pack.facts["data"], "networks": networks, "unavailable": unavailable}
write_json(project_path(product["comparison"]), content)
print("; ".join(f"{name}: {verdict(entry['mcnemar'])}" for name, entry in networks.items() if name != "ours"))

# %% [markdown]
# Next: [06_export](06_export.ipynb) writes the network as ONNX and chooses what the service runs.

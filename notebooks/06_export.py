# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 06 · Export
# Write a trained network as ONNX, try what might make it answer faster, and choose what the service runs.
#
# **Reads** the pack of [01_data](01_data.ipynb) and the weights of [02_train](02_train.ipynb), or any others.
# **Writes** `model.onnx`, the network as it is; `served.onnx`, the variant that won, with its calibration in `served.json`;
# `export.json`, all figures.
# **Takes** a minute on the sample; on CIFAKE twenty minutes on two cores.

# %% tags=["parameters"]
checkpoint = ""  # type: str a file of weights ("": those of 02_train)
small_network = "texture_net_tiny"  # type: str answers what is easy, before the network itself ("": none)
small_epochs = 8  # type: int
small_taught = 0.7  # type: float share of what it learns that is the network's answer; the rest is the label
small_errors = [0.05]  # type: list how many of the small network's answers may be wrong; each makes a variant
view_error = 0.05  # type: float how many of the network's answers after one look may be wrong
calibration_images = 256  # type: int training images that give the ranges of 8-bit integers
pruned = 0.3  # type: float share of the weights, or of the channels, that pruning takes
max_loss = 0.1  # type: float points of accuracy that what is served may lose
rounds = 2  # type: int of timing, each of all variants in turn
unsure_error = 0.05  # type: float how many of the verdicts that are not UNSURE may be wrong
threads = 0  # type: int on the CPU (0: as many as there are cores)
wandb = "auto"  # type: str auto (online with WANDB_API_KEY, else offline), online, offline or disabled
lib_hash = ""  # type: str set by the pipeline, so that an edit in lib makes this step stale
upstream = {"01_data": {"pack": "outputs/sample/01_data/pack/pack.json"}, "02_train": {"weights": "outputs/sample/02_train/weights.safetensors"}}  # type: dict  # fmt: skip
product = {"nb": "outputs/sample/06_export/06_export.ipynb", "model": "outputs/sample/06_export/model.onnx", "served": "outputs/sample/06_export/served.onnx", "export": "outputs/sample/06_export/export.json"}  # type: dict  # fmt: skip

# %%
from lib.parameters import check

check("06_export", globals())

# %%
import hashlib
import os
import shutil
from functools import partial

import numpy as np
import pandas as pd
import torch

# %%
from lib import plots, plots_export
from lib.artifacts import log_model
from lib.calibration import at_temperature, fit_temperature
from lib.cascade import second_look, small_first
from lib.choice import answers, choose, cost_table, judge, kept_table, measure, table_of
from lib.distil import Teacher
from lib.export import TOLERANCE, export_onnx
from lib.files import project_path, read_json, write_json
from lib.metrics import evaluate, percent
from lib.model import Model
from lib.networks import count_macs
from lib.pack import open_pack
from lib.provenance import processor
from lib.selective import evaluate_unsure, unsure_below
from lib.settings import Settings
from lib.training import train
from lib.variants import onnx_variants, torch_variants
from lib.weights import load_weights

# %%
plots.use_style()
torch.set_num_threads(threads or os.cpu_count())

# %% [markdown]
# ## The network as ONNX
# One input, `images` (uint8, N×3×32×32, RGB), one output, `logits`; normalisation and the mirrored view lie inside.

# %%
pack = open_pack(project_path(upstream["01_data"]["pack"]).parent)
weights = project_path(checkpoint or upstream["02_train"]["weights"])
model, served_file, figures = (project_path(product[key]) for key in ("model", "served", "export"))
digest = hashlib.sha256(weights.read_bytes()).hexdigest()
network = load_weights(weights)
export_onnx(network, model)
print(f"Data: {pack.facts['data']}; {weights.name}: {weights.stat().st_size:,} bytes, ONNX: {model.stat().st_size:,}")

# %%
val, test = pack.rows("val"), pack.rows("test")
val_images, test_images = (np.ascontiguousarray(pack.images[rows].transpose(0, 3, 1, 2)) for rows in (val, test))
labels = pack.index["label"].to_numpy()
with torch.inference_mode():
    by_torch = network(torch.from_numpy(val_images[:256])).numpy()
apart = np.abs(Model(model).logits(pack.images[val[:256]]) - by_torch).max()
print(f"ONNX Runtime's logits are within {TOLERANCE:g} of PyTorch's: {apart <= TOLERANCE}")

# %% [markdown]
# ## A small network for what is easy
# Trained on the same images as the network itself, from whose answers it learns too. It answers alone where it is sure; the
# rest is the network's, in int8, which in turn looks again, at the mirror image or by its second column, only where it must.

# %%
drawn = np.random.default_rng(0).choice(pack.rows("train"), calibration_images, replace=False)
calibration = np.ascontiguousarray(pack.images[np.sort(drawn)].transpose(0, 3, 1, 2))
val_labelled = val_images, labels[val]
first = {}
if small_network:
    small_folder, recipe = figures.parent / "small", read_json(weights.with_name("run.json"))["parameters"]
    own = {"network": small_network, "epochs": small_epochs, "mirror": False}
    plain = {"erase": 0, "cutmix": 0.0, "object_weight": 0.0}
    train(pack, Settings(**recipe | own | plain), small_folder, wandb, teacher=Teacher(network, small_taught))
    small = load_weights(small_folder / "weights.safetensors")
    first = {error: partial(small_first, small, calibration, val_labelled, error=error) for error in small_errors}
    work = [f"{count_macs(it) / 1e6:.1f}" for it in (small, network)]
    print(f"{small_network}: {work[0]} million multiply-accumulates an image, where the network itself has {work[1]}")

# %% [markdown]
# ## Variants
# 8-bit integers hold the filters and activations of all convolutions but the first two; training images give their ranges.

# %%
second = partial(second_look, calibration=calibration, val=val_labelled, error=view_error)
variants, unavailable = onnx_variants(network, calibration, pruned, figures.parent / "variants", threads, second, first)
by_pytorch, failed = torch_variants(network, weights)
variants, unavailable = variants | by_pytorch, unavailable | failed
logits = answers(variants, val_images)
entries = judge(logits, labels[val])
for name, variant in variants.items():
    entries[name] |= {"bytes": variant.file.stat().st_size, "servable": variant.servable}
kept_table(entries, unavailable)

# %% [markdown]
# On validation images, each beside the first row; the interval is McNemar's, over images that one alone has right.

# %% tags=["nbval-ignore-output"]
costs = measure(variants, val_images, rounds)
for name, cost in costs.items():
    entries[name]["cost"] = cost
cost_table(entries)

# %% [markdown]
# Medians of 40 calls with one image and 2 with 256, in rounds that alternate between all variants in one process.

# %% [markdown]
# ## The one that is served
# The fastest ONNX file whose whole interval lies above the loss that is tolerated; of those within a standard deviation of
# it, the first. With few images only what changes hardly a verdict can show that.

# %% tags=["nbval-ignore-output"]
served = choose(entries, max_loss)
shutil.copy(variants[served].file, served_file)
print(f"Served: {served}")
plots_export.speed_and_change(entries, max_loss, served)

# %% [markdown]
# Right of the dashed line is good enough; filled marks are files that the service can run. Weights at zero save nothing in
# dense convolutions.

# %% [markdown]
# ## Its own calibration
# Temperature and threshold of another variant need not fit it, so both are fitted anew on validation.

# %% tags=["nbval-ignore-output"]
tables = {name: table_of(logits[name], labels[val]) for name in dict.fromkeys((next(iter(entries)), served))}
temperatures = {name: fit_temperature(table) for name, table in tables.items()}
calibrated = at_temperature(tables[served], temperatures[served])
threshold = unsure_below(calibrated, unsure_error)
errors = {
    f"{served}, at the temperature of {name}": percent(
        evaluate(at_temperature(tables[served], temperature))["calibration_error"]
    )
    for name, temperature in temperatures.items()
}
pd.Series(errors, name="expected calibration error, validation")

# %% [markdown]
# ## On the test images, once
# Only the plain export and what is served are judged on them, after the choice.

# %% tags=["nbval-ignore-output"]
test_logits = answers({name: variants[name] for name in tables}, test_images)
final = judge(test_logits, labels[test])
for name, entry in final.items():
    entry["bytes"] = entries[name]["bytes"]
kept_table(final, {})

# %% [markdown]
# ## What is written

# %% tags=["nbval-ignore-output"]
promise = evaluate_unsure(calibrated, np.inf if threshold is None else threshold)
of_test = at_temperature(table_of(test_logits[served], labels[test]), temperatures[served])
about = {
    "data": pack.facts["data"],
    "variant": served,
    "calibration": {"temperature": temperatures[served], "after": evaluate(of_test)},
    "selective": {"stated_error": unsure_error, "unsure_below": threshold, "val": promise},
    "test": final[served],
}
write_json(served_file.with_suffix(".json"), about)
machine = {"processor": processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads(), "rounds": rounds}
content = {"data": pack.facts["data"], "checksums": pack.facts["checksums"], "weights": digest, "machine": machine,
           "max_loss": max_loss, "variants": entries, "unavailable": unavailable, "served": served, "test": final}  # fmt: skip
write_json(figures, content)
print(log_model(wandb, figures.parent, [served_file, served_file.with_suffix(".json")], {"variant": served}))

# %% [markdown]
# ## Checks

# %%
assert entries[served]["servable"] and 100 * entries[served]["change"]["low"] >= -max_loss
assert Model(served_file).temperature == temperatures[served], "the service would not read what was fitted"
assert np.array_equal(
    Model(served_file, threads).logits(pack.images[val[:128]]).argmax(1), logits[served][:128].argmax(1)
)
assert apart <= TOLERANCE

# %% [markdown]
# The pipeline now writes `report.html`, which holds what these six notebooks show.

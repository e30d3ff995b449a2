# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 06 · Export
# **How much faster can the network become without losing accuracy that we could notice?**
#
# Export it as ONNX, compare variants of higher throughput, and select the one to serve.
#
# **Reads** the packed dataset of [01_data](01_data.ipynb) and the weights of [02_train](02_train.ipynb), or any others.
# **Writes** `model.onnx`, the plain export; `served.onnx`, the selected variant, with its calibration in `served.json`;
# `export.json`, the measurements of all variants.
# **Takes** one to three minutes on the sample; on CIFAKE a quarter of an hour on two cores.

# %% tags=["parameters"]
checkpoint = ""  # type: str a safetensors file ("": the weights of 02_train)
student = "texture_net_tiny"  # type: str the small network of the cascade ("": no cascade)
student_epochs = 6  # type: int epochs of its distillation
distillation_alpha = 0.7  # type: float weight of the teacher's softmax in its targets; the rest is the label
student_target_risks = [0.05]  # type: list errors allowed among the student's predictions; each gives a variant
exit_target_risk = 0.05  # type: float error allowed among the predictions at the early exit
max_calibration_samples = 256  # type: int training images that calibrate the int8 quantisation (0: all)
prune_ratio = 0.3  # type: float fraction of the weights, or of the channels, to prune
max_accuracy_drop = 0.1  # type: float points of accuracy that the served variant may lose
torch_compile = False  # type: bool a variant compiled by inductor too, which takes a minute or two
rounds = 2  # type: int rounds of timing, each over all variants in turn
target_risk = 0.05  # type: float error allowed among the predictions that are not UNSURE
threads = 0  # type: int CPU threads (0: one a usable core)
wandb = "auto"  # type: str auto (online with WANDB_API_KEY, else offline), online, offline or disabled
lib_hash = ""  # type: str hash of the modules used, set by the pipeline: an edit in lib makes this step outdated
upstream = {"01_data": {"dataset": "outputs/sample/01_data/dataset/metadata.json"}, "02_train": {"weights": "outputs/sample/02_train/weights.safetensors"}}  # type: dict  # fmt: skip
product = {"nb": "outputs/sample/06_export/06_export.ipynb", "model": "outputs/sample/06_export/model.onnx", "served": "outputs/sample/06_export/served.onnx", "export": "outputs/sample/06_export/export.json"}  # type: dict  # fmt: skip

# %%
from lib.core.parameters import validate_parameters

validate_parameters("06_export", globals())

# %%
import hashlib
import shutil
from functools import partial

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown
from joblib import cpu_count

from lib.core.files import project_path, read_json, write_json
from lib.core.provenance import processor
from lib.core.rows import equal_pixels
from lib.data.dataset import open_dataset, sample_size

# %%
from lib.evaluation.calibration import at_temperature, fit_temperature
from lib.evaluation.metrics import change, evaluate, percent
from lib.evaluation.selective import evaluate_selective, selective_threshold
from lib.export import selection
from lib.export.cascade import early_exit, student_first
from lib.export.onnx_file import TOLERANCE, export_onnx
from lib.export.variants import onnx_variants, torch_variants
from lib.inference.artifacts import log_model
from lib.inference.out_of_distribution import fit_distance
from lib.inference.predictor import Predictor

# %%
from lib.models.device import set_threads
from lib.models.networks import count_macs
from lib.models.weights import load_weights
from lib.plots import export as export_plots
from lib.plots.style import use_style
from lib.training.distillation import Teacher
from lib.training.settings import Settings
from lib.training.train import train

use_style()
set_threads(threads)

# %% [markdown]
# ## The network as ONNX
# ONNX is a file format for networks: a graph of operations and its weights, which any runtime and language can execute,
# without PyTorch and without this project. The graph has one input, `images` (uint8, N×3×32×32, RGB), and one output,
# `logits`. It contains the normalisation, the ensemble and, if used, the flip TTA, so that a client cannot get them wrong.
# The same weights in another runtime give nearly the same logits; the difference is checked first.

# %%
dataset = open_dataset(project_path(upstream["01_data"]["dataset"]).parent)
weights = project_path(checkpoint or upstream["02_train"]["weights"])
model, served_file, export_file = (project_path(product[key]) for key in ("model", "served", "export"))
digest = hashlib.sha256(weights.read_bytes()).hexdigest()
network = load_weights(weights)
export_onnx(network, model)
weights_bytes, model_bytes = weights.stat().st_size, model.stat().st_size
print(f"Data: {dataset.metadata['data']}; {weights.name}: {weights_bytes:,} bytes, ONNX: {model_bytes:,} bytes")

# %%
val, test = dataset.indices("val"), dataset.indices("test")
val_images, test_images = (dataset.rows(split, channels_first=True) for split in ("val", "test"))
labels = dataset.records["label"].to_numpy()
with torch.inference_mode():
    some = val[: equal_pixels(128, dataset.image_size)]
    torch_logits = network(torch.from_numpy(val_images[: len(some)])).numpy()
max_difference = np.abs(Predictor(model).logits(dataset.images[some]) - torch_logits).max()
print(f"ONNX Runtime's logits are within {TOLERANCE:g} of PyTorch's: {max_difference <= TOLERANCE}")

# %% [markdown]
# ## A student for a cascade
# Most images are easy. A *cascade* gives them to a small network, the student, and only those of which it is not
# confident to the large one. The student is *distilled*: it learns from the probabilities of the network itself, the
# teacher, which say more about an image than its label. The teacher is in int8 and has an early exit in turn: it
# computes the flip TTA, or its second ensemble member, only where the first pass is not confident. Thresholds are
# chosen on validation images.

# %%
train_indices = dataset.indices("train")
num_calibration = sample_size("max_calibration_samples", max_calibration_samples, len(train_indices))
chosen = np.random.default_rng(0).choice(train_indices, num_calibration, replace=False)
calibration = np.ascontiguousarray(dataset.images[np.sort(chosen)].transpose(0, 3, 1, 2))
val_labelled, cascades = (val_images, labels[val]), {}

# %%
if student:
    student_folder, common = export_file.parent / "student", read_json(weights.with_name("run.json"))["parameters"]
    own = {"network": student, "epochs": student_epochs, "hflip_tta": False}
    plain = {"cutout_size": 0, "cutmix_prob": 0.0, "aux_loss_weight": 0.0}
    teacher = Teacher(network, distillation_alpha)
    train(dataset, Settings(**common | own | plain), student_folder, wandb, teacher=teacher)
    distilled = load_weights(student_folder / "weights.safetensors")
    cascades = {
        risk: partial(student_first, distilled, calibration, val_labelled, target_risk=risk)
        for risk in student_target_risks
    }
    macs = [f"{count_macs(it) / 1e6:.1f}" for it in (distilled, network)]
    print(f"{student}: {macs[0]} million MACs an image; the network itself: {macs[1]} million")

# %% [markdown]
# ## Variants
# *Quantisation* stores weights and activations as 8-bit integers: a quarter of the memory for what is quantised, and faster arithmetic. Each
# layer's numbers are mapped onto 256 steps over their range, which training images calibrate; the first two layers, which
# see the finest texture, stay in float32 unless a variant says so. *Pruning* removes weights or whole channels. All
# classify the same validation images, and the interval is that of the paired difference to the first row: narrow for a
# variant that changes hardly a prediction.

# %%
exits = partial(early_exit, calibration=calibration, val=val_labelled, target_risk=exit_target_risk)
variants, unavailable = onnx_variants(
    network, calibration, prune_ratio, export_file.parent / "variants", threads, exits, cascades
)
in_torch, failed = torch_variants(network, weights, torch_compile)
variants, unavailable = variants | in_torch, unavailable | failed
logits = selection.predict_logits(variants, val_images)
entries = selection.evaluate_variants(logits, labels[val])
for name, variant in variants.items():
    entries[name] |= {"bytes": variant.file.stat().st_size, "servable": variant.servable}
selection.accuracy_table(entries, unavailable)

# %% [markdown]
# Timed next: medians of 40 calls with one image and 2 with 256, in rounds that alternate between all variants, in one
# process, so that other load on the machine affects all alike.

# %% tags=["nbval-ignore-output"]
for name, latency in selection.measure_variants(variants, val_images, rounds).items():
    entries[name]["latency"] = latency
selection.latency_table(entries)

# %% [markdown]
# ## Selection
# "No significant loss" is a weak rule: with few images nothing is significant. Non-inferiority is the stronger one: a variant is
# eligible only if the *whole* interval of its change lies above the tolerated drop, right of the dashed line, and if it is
# a file that the service can run. Of the eligible ones the fastest is served; of those within a standard deviation of it,
# the first. Eligible variants are filled, the served one has a star. Pruned single weights save nothing in dense
# convolutions.

# %% tags=["nbval-ignore-output"]
served = selection.select(entries, max_accuracy_drop)
shutil.copy(variants[served].file, served_file)
print(f"Served: {served}")
export_plots.accuracy_vs_throughput(entries, max_accuracy_drop, served)

# %% [markdown]
# ## Calibration of the served variant, and the test images, once
# Temperature and threshold of another variant need not hold for it, so both are fitted again on validation images. After
# the selection the plain export and the served variant are evaluated on the test images. No other variant is: choosing
# among them by test accuracy would fit the choice to the test images.

# %% tags=["nbval-ignore-output"]
tables = {name: selection.table_of(logits[name], labels[val]) for name in dict.fromkeys((next(iter(entries)), served))}
temperatures = {name: fit_temperature(table) for name, table in tables.items()}
calibrated = at_temperature(tables[served], temperatures[served])
threshold = selective_threshold(calibrated, target_risk)
errors = {
    f"{served}, at the temperature of {name}": percent(
        evaluate(at_temperature(tables[served], temperature))["expected_calibration_error"]
    )
    for name, temperature in temperatures.items()
}
pd.Series(errors, name="expected calibration error, validation")

# %% tags=["nbval-ignore-output"]
test_logits = selection.predict_logits({name: variants[name] for name in tables}, test_images)
final = selection.evaluate_variants(test_logits, labels[test])
for name, entry in final.items():
    entry["bytes"] = entries[name]["bytes"]
selection.accuracy_table(final, {})

# %% tags=["nbval-ignore-output"]
selective = evaluate_selective(calibrated, np.inf if threshold is None else threshold)
test_table = at_temperature(selection.table_of(test_logits[served], labels[test]), temperatures[served])
served_content = {
    "data": dataset.metadata["data"],
    "variant": served,
    "calibration": {"temperature": temperatures[served], "after": evaluate(test_table)},
    "selective": {"target_risk": target_risk, "selective_threshold": threshold, "val": selective},
    "input_rule": dataset.input_rule,
    "out_of_distribution": fit_distance(dataset.rows("val"), labels[val]).to_json(),
    "test": final[served],
}
write_json(served_file.with_suffix(".json"), served_content)

# %% tags=["nbval-ignore-output"]
machine = {"processor": processor(), "cores": cpu_count(), "threads": torch.get_num_threads(), "rounds": rounds}
content = {"data": dataset.metadata["data"], "checksums": dataset.metadata["checksums"], "weights": digest,
           "machine": machine, "max_accuracy_drop": max_accuracy_drop, "variants": entries,
           "unavailable": unavailable, "served": served, "test": final}  # fmt: skip
write_json(export_file, content)
print(log_model(wandb, export_file.parent, [served_file, served_file.with_suffix(".json")], {"variant": served}))

# %% [markdown]
# ## Checks

# %%
assert entries[served]["servable"] and 100 * entries[served]["change"]["ci_low"] >= -max_accuracy_drop
assert Predictor(served_file).calibration.temperature == temperatures[served], (
    "served.json does not hold the fitted temperature"
)
assert np.array_equal(
    Predictor(served_file, threads).logits(dataset.images[some]).argmax(1), logits[served][: len(some)].argmax(1)
)
assert max_difference <= TOLERANCE

# %% [markdown]
# ## Answer

# %% tags=["nbval-ignore-output"]
rate, first_rate = (entries[name]["latency"]["images_per_second"]["mean"] for name in (served, next(iter(entries))))
eligible = [name for name, entry in entries.items()
            if entry["servable"] and 100 * entry["change"]["ci_low"] >= -max_accuracy_drop]  # fmt: skip
Markdown(
    f"Of {len(entries)} variants {len(eligible)} may be served: at most {max_accuracy_drop:g} points less accurate on "
    f"{len(val):,} validation images, with the whole interval. The fastest is **{served}**: {rate:,.0f} images/s on "
    f"{processor()}, {rate / first_rate:.1f} times the plain export. On the {len(test):,} test images of "
    f"{dataset.metadata['data']} its accuracy changes by {change(final[served]['change'])} points."
)

# %% [markdown]
# ## Two things to try
# 1. Set `max_accuracy_drop` to 1. Which variant is served now, and how much faster is it?
# 2. Set `student_target_risks` to [0.01, 0.1]: how many images does the student keep, and what do they cost?
#
# The pipeline now writes `report.html`, the outputs of these six notebooks on one page.

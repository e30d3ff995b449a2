# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 04 · Evaluate
# **How often is the network right on images that nothing was fitted to, can its probabilities be believed, and when does
# it fail?**
#
# Here it meets the test images, used by no earlier step, and corrupted copies.
#
# **Reads** the packed dataset of [01_data](01_data.ipynb) and the weights of [02_train](02_train.ipynb).
# **Writes** `predictions.csv`; `metrics.json`, computed from it; `drift.npz`, reference of the drift test; and
# `training_hashes.npy`, by which training images are recognised.
# **Takes** half a minute on the sample; on CIFAKE a minute on two cores, and 20 minutes more for the corruptions.

# %% tags=["parameters"]
target_risk = 0.05  # type: float error allowed among the predictions that are not UNSURE
robustness = True  # type: bool evaluate under every corruption too
max_robustness_samples = 150  # type: int size of the random subset of val and of test (0: all images)
external = []  # type: list folders or zips of labelled images from elsewhere, evaluated too
accelerator = "auto"  # type: str auto, cpu or gpu
lib_hash = ""  # type: str hash of the modules used, set by the pipeline: an edit in lib makes this step outdated
upstream = {"01_data": {"dataset": "outputs/sample/01_data/dataset/metadata.json"}, "02_train": {"weights": "outputs/sample/02_train/weights.safetensors", "run": "outputs/sample/02_train/run.json"}}  # type: dict  # fmt: skip
product = {"nb": "outputs/sample/04_evaluate/04_evaluate.ipynb", "predictions": "outputs/sample/04_evaluate/predictions.csv", "metrics": "outputs/sample/04_evaluate/metrics.json", "drift": "outputs/sample/04_evaluate/drift.npz", "training_hashes": "outputs/sample/04_evaluate/training_hashes.npy"}  # type: dict  # fmt: skip

# %%
from lib.core.parameters import validate_parameters

validate_parameters("04_evaluate", globals())

# %%
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import Markdown, display

from lib.core.files import atomic_dir, project_path, read_json, write_json
from lib.core.pixel_hash import read_hashes, save_hashes
from lib.core.rows import in_parts
from lib.data.dataset import open_dataset
from lib.evaluation import drift_rates, explain, external_table, selective, tables
from lib.evaluation import external as external_images
from lib.evaluation import metrics as measures
from lib.evaluation import robustness as robustness_evaluation
from lib.evaluation.calibration import at_temperature, fit_temperature

# %%
from lib.evaluation.predictions import load_predictions, predict, predicted_labels, save_predictions
from lib.inference import out_of_distribution as ood
from lib.inference.drift import ALPHA, DriftTest, image_statistics, save_reference
from lib.inference.predictor import Calibration
from lib.models.device import set_threads
from lib.models.weights import load_weights
from lib.plots import evaluation as evaluation_plots
from lib.plots import external as external_plots
from lib.plots import robustness as robustness_plots
from lib.plots.style import use_style

use_style()
set_threads()

# %% [markdown]
# ## Predict once
# The network runs once over all validation and test images. All metrics up to the robustness evaluation are computed from
# this table of logits, so they agree with each other, and can be computed again without the network.

# %%
dataset = open_dataset(project_path(upstream["01_data"]["dataset"]).parent)
run = read_json(project_path(upstream["02_train"]["run"]))
weights = project_path(upstream["02_train"]["weights"])
network = load_weights(weights)
table, features = predict(network, dataset, ("val", "test"), accelerator, tta=True)
save_predictions(project_path(product["predictions"]), table, dataset, weights)

# %%
predictions = load_predictions(project_path(product["predictions"]), dataset, weights)
val, test = (predictions[predictions["split"] == split].reset_index(drop=True) for split in ("val", "test"))
val_images, images = dataset.rows("val"), dataset.rows("test")
print(f"{run['parameters']['network']} trained on {run['data']['data']}, evaluated on {len(test):,} test images")
test.sample(5, random_state=0)

# %% [markdown]
# ## Metrics
# FAKE is the positive class. A metric of few images is uncertain, so each has a 95 % confidence interval: proportions
# by Wilson's formula, all others by the bootstrap over images. *Majority class accuracy*, that of always predicting the
# larger class, is the baseline. The first two columns differ by the leaked images: a large difference would mean
# memorised images. Flip TTA averages the logits of an image and its mirror image; one of the last two columns repeats
# the first. Log loss is in nats.

# %%
metrics = {"schema_version": measures.SCHEMA_VERSION, "data": dataset.metadata["data"]}
metrics |= {
    "input_rule": dataset.input_rule,
    "checksums": dataset.metadata["checksums"],
    **measures.evaluate_test(predictions),
}
groups = {"all test images": metrics["test"], "without leaked images": metrics["test_without_leaks"]}
groups |= {"all, without flip TTA": metrics["without_tta"], "all, with flip TTA": metrics["with_tta"]}
tables.metrics_table(groups)

# %%
evaluation_plots.confusion(test)

# %% [markdown]
# ## Every threshold at once
# A lower threshold finds more FAKE images (the true positive rate, or recall) and accuses more photographs (the false
# positive rate). The ROC curve draws one against the other, on a logarithmic axis, since use in practice needs few
# false accusations. Precision is the part of the accused that is FAKE. A *DET curve* shows the two kinds of error,
# missed FAKE and accused REAL, on axes stretched by the normal distribution. Normal scores give a straight line, and
# the lower left corner is perfect.

# %%
evaluation_plots.roc_pr_det({"all test images": test, "without leaked images": test[~test["leaked"]]})

# %%
measures.threshold_table(test)

# %% [markdown]
# ## Calibration
# Of all images with P(FAKE) near 0.8, are 80 % FAKE? If so, the probabilities are *calibrated*. The *expected
# calibration error* (ECE) puts the images into 15 bins by their probability and takes the mean distance between
# probability and share of FAKE, weighted by the images in the bin. Temperature scaling divides the logits by one
# number, fitted on validation images; it moves probabilities towards or away from 0.5 and changes no prediction.
# Whiskers are 95 % intervals: bins in the middle hold few images (lower panels).

# %%
temperature = fit_temperature(val)
val_c, test_c = at_temperature(val, temperature), at_temperature(test, temperature)
calibrated = {"as trained": test, f"at temperature {temperature:.2f}": test_c}
before, after = metrics["test"], measures.evaluate(test_c)
metrics["calibration"] = {"temperature": temperature, "before": before, "after": after}
evaluation_plots.reliability_diagram(calibrated)

# %%
tables.calibration_table(dict(zip(calibrated, (before, after), strict=True)))

# %% [markdown]
# ## Saying UNSURE
# *Selective prediction* withholds predictions whose confidence is below a threshold, chosen on validation images so
# that the error among the others, the risk, stays below a target, with a probability of 95 %. Beyond the marked
# coverage the guarantee ends. *Conformal sets* answer with a set of classes, which contains the label of all but a
# fraction alpha of each class, whatever the network; a set of both classes, or an empty one, is an unsure answer. Both
# guarantees hold only for images like the validation images.

# %%
metrics |= selective.evaluate_guarantees(val_c, test_c, target_risk)
threshold, coverage = metrics["selective"]["selective_threshold"], metrics["selective"]["val"]["coverage"]["value"]
evaluation_plots.risk_coverage_curve(val_c, test_c, target_risk, threshold, coverage)

# %%
tables.guarantees_table(metrics["selective"], metrics["conformal"])

# %% [markdown]
# ## Images far from the training data
# A prediction has no basis where an image is unlike the validation images. The squared Mahalanobis distance of seven pixel
# statistics detects that for a single image; beyond a threshold a prediction is UNSURE too. The threshold is chosen so
# that at most 1 % of either class of the validation images lie beyond it. The table shows how many do.

# %%
distance = ood.fit_distance(val_images, val["label"].to_numpy())
beyond = {
    split: measures.shares_by_class(distance.beyond(known), part["label"].to_numpy())
    for split, known, part in (("val", val_images, val), ("test", images, test))
}
metrics["out_of_distribution"] = {**distance.to_json(), "beyond": beyond}
pd.DataFrame({split: {name: measures.percent(it) for name, it in shares.items()} for split, shares in beyond.items()})

# %% [markdown]
# ## Errors, and what they rest on
# Accuracy by object class says where the generator is good: where intervals do not overlap, one class is harder than
# the other. Then the most confident errors. Last, *Grad-CAM*: the gradient of the logits says which feature maps count,
# and their weighted sum where they are active. Orange regions raise the logit of FAKE, blue ones that of REAL, each
# image on a scale of its own. The gradient is a mean over positions, so a map does not add up to the prediction.

# %%
shown = "accuracy" if measures.is_balanced(metrics["test"]) else "balanced_accuracy"
by_object_class = {name: entry[shown] for name, entry in metrics["object_class"].items()}
omitted = sorted(set(test["object_class"]) - set(by_object_class))
print(*(f"{name} is left out: its test images are of one class" for name in omitted), sep="\n")
if test["object_class"].nunique() > 1:
    display(evaluation_plots.accuracies(by_object_class, "by object class", shown.replace("_", " ")))

# %%
wrong = explain.most_confident_errors(test, 18)
evaluation_plots.gallery(images[wrong], test.iloc[wrong])

# %%
maps = {name: (images[rows], explain.grad_cam(network, images[rows])) for name, rows in explain.cases(test).items()}
evaluation_plots.grad_cam_maps(maps)

# %% [markdown]
# ## Robustness
# The same images under 38 corruptions: noise, blur, JPEG and more, beside clean ones. A filled mark is the error at the
# threshold of 0.5, an open one that at a threshold retuned on validation images under the same corruption: what
# retuning recovers was a shifted threshold, the rest is lost information. Grey: published. Ten frequency ablations
# follow, 49 conditions in all: images without the frequencies above or below a cutoff, without luma or chroma. The
# network was not trained on those: they show what it depends on.

# %%
metrics["robustness"] = metrics["frequency_ablation"] = None
folder = project_path(product["metrics"]).parent / "robustness"
is_ablation = set(robustness_evaluation.FREQUENCY_ABLATION)
if robustness:
    corruptions = robustness_evaluation.evaluate_robustness(
        network, dataset, weights, folder, max_robustness_samples, accelerator
    )
    metrics["frequency_ablation"] = {name: entry for name, entry in corruptions.items() if name in is_ablation}
    metrics["robustness"] = {name: entry for name, entry in corruptions.items() if name not in is_ablation}
    display(robustness_plots.robustness(metrics["robustness"], published=dataset.metadata["data"] == "CIFAKE"))

# %%
if robustness:
    display(robustness_evaluation.robustness_table(metrics["robustness"]))

# %%
if robustness:
    clean = {"clean": metrics["robustness"]["clean"]}
    display(robustness_plots.frequency_ablation(metrics["frequency_ablation"] | clean))
    display(robustness_evaluation.robustness_table(metrics["frequency_ablation"]))

# %% [markdown]
# ## Drift
# *Drift* is a change of the images that arrive, so that figures measured before no longer hold. A Kolmogorov–Smirnov
# test asks whether a batch can come from the distribution of the validation images: on features and on statistics,
# within each predicted class, since another share of FAKE is no drift. The first map is of test images: on CIFAKE false
# alarms, of which 5 % are allowed; the sample's are cut from other parts of the photographs, a real drift. The second
# is of corrupted images.

# %%
statistics, predicted = in_parts(image_statistics, val_images), predicted_labels(val)
save_reference(project_path(product["drift"]), statistics, predicted)
drift_tests = {"features": drift_rates.features_test(features[: len(val)], predicted),
               "statistics": DriftTest(statistics, predicted)}  # fmt: skip
inputs = {"features": features[len(val) :], "statistics": in_parts(image_statistics, images)}
is_fake = (test["label"] == 0).to_numpy()
false_positive_rate = {
    name: drift_rates.rates_by_share(it, inputs[name], predicted_labels(test), is_fake, batches=200)
    for name, it in drift_tests.items()
}
metrics["drift"] = {"alpha": ALPHA, "false_positive_rate": false_positive_rate, "detection_rate": None}
display(drift_rates.rates_table(false_positive_rate))
robustness_plots.drift_heatmap(false_positive_rate, "false positive rate by share of FAKE")

# %%
if robustness:
    corrupted = {name: robustness_evaluation.load_corruption(folder, name) for name in metrics["robustness"]}
    metrics["drift"]["detection_rate"] = drift_rates.rates_by_corruption(drift_tests, corrupted)
    display(robustness_plots.drift_heatmap(metrics["drift"]["detection_rate"], "detection rate"))

# %% [markdown]
# ## Images from elsewhere
# Labelled images that `external` names, by the same rule from image to input and the same thresholds. Nothing is fitted on
# them. Without any, this section is empty.

# %%
known = np.flatnonzero(dataset.records["split"].isin(["train", "val"]))
hashes_file, reports = project_path(product["training_hashes"]), {}
save_hashes(hashes_file, (dataset.images[index] for index in known))
calibration = Calibration(temperature, threshold, distance)
for number, source in enumerate(external):
    known_images = read_hashes(hashes_file), drift_tests["statistics"]
    reports[f"{number} {Path(source).stem}"] = external_images.evaluate_network(
        network, calibration, dataset.input_rule, project_path(source), *known_images, accelerator
    )

# %%
if reports:
    with atomic_dir(project_path(product["metrics"]).parent / "external") as files:
        for name, report in reports.items():
            write_json(files / f"{name}.json", report)
            external_table.write_sets_csv(files / f"{name}.csv", report)
            external_plots.save_external_sets(files / f"{name}.png", report)
            print(external_table.sets_table(report))
            display(external_plots.external_sets(report))

# %%
write_json(project_path(product["metrics"]), measures.check_metrics(metrics))
accuracy, leaked = metrics["test"]["accuracy"], dataset.metadata["test_leaked"]
assert accuracy["ci_low"] <= accuracy["value"] <= accuracy["ci_high"]
assert metrics["test_without_leaks"]["accuracy"]["n"] == accuracy["n"] - leaked
assert after["accuracy"] == before["accuracy"] == accuracy, "a temperature changes no prediction"

# %% [markdown]
# ## Answer

# %%
helped = "lowers" if after["log_loss"]["value"] < before["log_loss"]["value"] else "does not lower"
answer = [f"On the test images of {metrics['data']}: {measures.describe_accuracy(metrics['test'])}.",
          f"ECE is {measures.percent(before['expected_calibration_error'])}; the temperature, fitted on {len(val):,} "
          f"validation images, {helped} the log loss of the test images."]  # fmt: skip
if threshold is None:
    answer.append(f"No threshold guarantees a risk of {100 * target_risk:g} %: every prediction is UNSURE.")
else:
    answer.append(f"It answers {measures.percent(metrics['selective']['test']['coverage'])} of them, with a risk of "
                  f"{measures.percent(metrics['selective']['test']['risk'])}.")  # fmt: skip
if robustness:
    answer.append(robustness_evaluation.describe_worst(metrics["robustness"]))
Markdown("\n".join(f"- {sentence}" for sentence in answer))

# %% [markdown]
# ## Two things to try
# 1. Halve `target_risk`. How many images become UNSURE, and is the risk on the test images below the target?
# 2. Train with `corruption_prob` 0.2 in 02_train, and evaluate again. Which errors under corruption fall, and what does it
#    cost on clean images?
#
# Next: [05_compare_vgg](05_compare_vgg.ipynb) compares it with VGG16.

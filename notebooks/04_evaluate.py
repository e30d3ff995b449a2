# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 04 · Evaluate
# Evaluate the trained network on the test images, which no earlier step has used, and on corrupted copies of them.
#
# **Reads** the packed dataset of [01_data](01_data.ipynb) and the weights of [02_train](02_train.ipynb).
# **Writes** `predictions.csv`; `metrics.json`, computed from it; `drift.npz`, the reference of the drift test; and
# `training_hashes.npy`, by which training images are found among others.
# **Takes** a minute on the sample; on CIFAKE a minute on two cores, and half an hour more for the corruptions.

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
from IPython.display import display

from lib.core.files import atomic_dir, project_path, read_json, write_json
from lib.core.pixel_hash import read_hashes, save_hashes
from lib.core.rows import in_parts
from lib.data.dataset import open_dataset
from lib.evaluation import external as external_images
from lib.evaluation import external_table
from lib.evaluation import metrics as measures
from lib.evaluation.calibration import at_temperature, fit_temperature
from lib.evaluation.drift_rates import detection_rates, features_test, rates_by_share, rates_table
from lib.evaluation.explain import cases, grad_cam, most_confident_errors
from lib.evaluation.metrics import evaluate, percent
from lib.evaluation.predictions import load_predictions, predict, predicted_labels, save_predictions
from lib.evaluation.robustness import FREQUENCY_ABLATION, evaluate_robustness, load_corruption, robustness_table
from lib.evaluation.selective import conformal_quantiles, evaluate_conformal, evaluate_selective, selective_threshold

# %%
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
# All metrics up to the robustness evaluation are computed from this table.

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
# FAKE is the positive class. Proportions have a 95 % Wilson interval, all other metrics a 95 % bootstrap interval.

# %%
metrics = {"schema_version": measures.SCHEMA_VERSION, "data": dataset.metadata["data"]}
metrics |= {
    "input_rule": dataset.input_rule,
    "checksums": dataset.metadata["checksums"],
    **measures.evaluate_test(predictions),
}
groups = {"all test images": metrics["test"], "without leaked images": metrics["test_without_leaks"]}
groups |= {"all, without flip TTA": metrics["without_tta"], "all, with flip TTA": metrics["with_tta"]}
pd.DataFrame(
    {
        title: {"images": f"{group['accuracy']['n']:,}"}
        | {
            f"{name} {label}".strip().replace("_", " "): percent(estimate)
            for name, entry in measures.in_order(group).items()
            for label, estimate in ({"": entry} if "value" in entry else entry).items()
        }
        for title, group in groups.items()
    }
)

# %% [markdown]
# *Majority class accuracy* is what always predicting the larger class gives, the baseline of accuracy.
# The first two columns differ by the leaked images: test images that are copies of training images. A large
# difference means that the network has memorised them. Flip TTA averages the logits of an image and its horizontal
# flip; one of the last two columns repeats the first. (Log loss, too, is shown times 100.)

# %%
evaluation_plots.confusion(test)

# %% [markdown]
# Rows are labels, columns predictions, normalised by row. The diagonal holds the recalls above.

# %%
evaluation_plots.roc_pr_det({"all test images": test, "without leaked images": test[~test["leaked"]]})

# %% [markdown]
# Use in practice needs a low false positive rate: the left end of the ROC curve, whose axis is logarithmic. In the
# DET curve normally distributed scores give straight lines, and the lower left corner is a perfect classifier.

# %%
measures.threshold_table(test)

# %% [markdown]
# ## Calibration
# Temperature scaling divides the logits by one number, fitted on validation images. It changes no prediction.

# %%
temperature = fit_temperature(val)
calibrated = {"as trained": test, f"at temperature {temperature:.2f}": at_temperature(test, temperature)}
before, after = metrics["test"], evaluate(at_temperature(test, temperature))
metrics["calibration"] = {"temperature": temperature, "before": before, "after": after}
evaluation_plots.reliability_diagram(calibrated)

# %%
names = ("expected_calibration_error", "brier_score", "log_loss")
pd.DataFrame({title: {name: percent(group[name]) for name in names}
              for title, group in zip(calibrated, (before, after), strict=True)})  # fmt: skip

# %% [markdown]
# On the diagonal the probabilities are calibrated. The lower panels show the number of images in each bin: most
# probabilities are near 0 or 1, so the bins between hold few images.

# %% [markdown]
# ## Selective prediction
# Predictions below a confidence threshold become UNSURE. The threshold is chosen on validation images, so that the
# error among the other predictions, the selective risk, stays below the target risk.

# %%
val_c, test_c = at_temperature(val, temperature), at_temperature(test, temperature)
threshold = selective_threshold(val_c, target_risk)
predict_from = np.inf if threshold is None else threshold  # without a guarantee every prediction is UNSURE
selective = {name: evaluate_selective(part, predict_from) for name, part in (("val", val_c), ("test", test_c))}
metrics["selective"] = {"target_risk": target_risk, "selective_threshold": threshold, **selective}
evaluation_plots.risk_coverage_curve(val_c, test_c, target_risk, threshold, selective["val"]["coverage"]["value"])

# %%
quantiles = conformal_quantiles(val_c, target_risk)
metrics["conformal"] = {"alpha": target_risk, "quantiles": quantiles, "test": evaluate_conformal(test_c, quantiles)}
estimates = {"coverage": selective["test"]["coverage"], "selective risk": selective["test"]["risk"],
             "risk of the UNSURE": selective["test"]["risk_of_abstained"]}  # fmt: skip
sets = metrics["conformal"]["test"]
estimates |= {f"conformal sets, coverage of {name}": sets["coverage"][name] for name in quantiles}
estimates |= {f"conformal sets, {name.replace('_', ' ')}": sets[name] for name in sets if name != "coverage"}
title = f"test, target risk {target_risk:.1%}"
pd.Series({name: percent(estimate) for name, estimate in estimates.items()}, name=title)

# %% [markdown]
# Beyond the marked coverage the selective risk would exceed the target. Conformal sets give another guarantee: of
# each class, all but a fraction alpha of the images have their label in the set. A set of both classes, or an empty
# one, is an uncertain prediction.

# %% [markdown]
# ## Images far from the training data
# A prediction has no basis where an image is unlike the validation images. The squared Mahalanobis distance of seven
# pixel statistics detects that for a single image; beyond the threshold a prediction is UNSURE too.

# %%
distance = ood.fit_distance(val_images, val["label"].to_numpy())
beyond = {
    split: measures.shares_by_class(distance.beyond(known), table["label"].to_numpy())
    for split, known, table in (("val", val_images, val), ("test", images, test))
}
metrics["out_of_distribution"] = {**distance.to_json(), "beyond": beyond}
pd.DataFrame({split: {name: percent(it) for name, it in shares.items()} for split, shares in beyond.items()})

# %% [markdown]
# The shares beyond the threshold, which was chosen for at most 1 % of either class of the validation images.

# %% [markdown]
# ## Errors and saliency

# %%
shown = "accuracy" if measures.is_balanced(metrics["test"]) else "balanced_accuracy"
by_object_class = {name: entry[shown] for name, entry in metrics["object_class"].items()}
omitted = sorted(set(test["object_class"]) - set(by_object_class))
print(*(f"{name} is left out: its test images are of one class" for name in omitted), sep="\n")
if test["object_class"].nunique() > 1:
    display(evaluation_plots.accuracies(by_object_class, "by object class", shown.replace("_", " ")))

# %% [markdown]
# Where intervals do not overlap, one object class is harder than the other. How well the generator renders an object
# differs from class to class.

# %%
wrong = most_confident_errors(test)
evaluation_plots.gallery(images[wrong], test.iloc[wrong])

# %% [markdown]
# The most confident errors, with label and predicted probability. On CIFAKE most are photographs, many of a single
# object on a smooth background.

# %%
maps = {name: (images[indices], grad_cam(network, images[indices])) for name, indices in cases(test).items()}
evaluation_plots.grad_cam_maps(maps)

# %% [markdown]
# Signed Grad-CAM, scaled in each image: red regions raise the logit of FAKE, blue ones that of REAL. Nearly every
# image has both. The maps do not add up to the prediction, since Grad-CAM averages the gradient over all positions.

# %% [markdown]
# ## Robustness
# The same images under corruptions: noise, blur, JPEG, resizing, screenshots and more. Accuracy is given at the
# threshold of 0.5, and at one retuned on validation images under the same corruption. What retuning recovers was a
# shifted threshold; what it does not recover is lost information.

# %%
metrics["robustness"] = metrics["frequency_ablation"] = None
folder = project_path(product["metrics"]).parent / "robustness"
if robustness:
    corruptions = evaluate_robustness(network, dataset, weights, folder, max_robustness_samples, accelerator)
    metrics["frequency_ablation"] = {name: entry for name, entry in corruptions.items() if name in FREQUENCY_ABLATION}
    metrics["robustness"] = {name: entry for name, entry in corruptions.items() if name not in FREQUENCY_ABLATION}
    display(robustness_plots.robustness(metrics["robustness"], published=dataset.metadata["data"] == "CIFAKE"))

# %%
if robustness:
    display(robustness_table(metrics["robustness"]))

# %% [markdown]
# Where both lines fall, only training helps (`corruption_prob` of 02_train); where only the solid line falls, a
# retuned threshold would. Open marks are the best published results under the same corruption.

# %%
if robustness:
    clean = {"clean": metrics["robustness"]["clean"]}
    display(robustness_plots.frequency_ablation(metrics["frequency_ablation"] | clean))
    display(robustness_table(metrics["frequency_ablation"]))

# %% [markdown]
# Accuracy without the frequencies above or below a cutoff, and without luma or chroma. The network was not trained on
# such images, so this shows which components it depends on, not how much information the others hold.

# %% [markdown]
# ## Drift detection
# Kolmogorov–Smirnov tests of a batch of images against validation images: on the network's features, and on image
# statistics, which need no network. Images are compared within each predicted class, because FAKE and REAL differ in
# all of these: a test of all images together would detect another share of FAKE as drift.

# %%
statistics, predicted = in_parts(image_statistics, val_images), predicted_labels(val)
save_reference(project_path(product["drift"]), statistics, predicted)
drift_tests = {"features": features_test(features[: len(val)], predicted),
               "statistics": DriftTest(statistics, predicted)}  # fmt: skip
inputs = {"features": features[len(val) :], "statistics": in_parts(image_statistics, images)}
false_positive_rate = {
    name: rates_by_share(it, inputs[name], predicted_labels(test), (test["label"] == 0).to_numpy(), batches=200)
    for name, it in drift_tests.items()
}
display(rates_table(false_positive_rate))
robustness_plots.drift_heatmap(false_positive_rate, "false positive rate by share of FAKE")

# %% [markdown]
# Detections on test images, of 200 random batches of each size and share of FAKE, with Wilson intervals. On CIFAKE
# they are false positives, and at most 5 % are expected in every row; on the sample, whose test images are cut from
# other parts of the photographs, the drift is real, as it is on any data whose test images have other sources than the
# validation images. A dash means that no batch could be tested: there are too few images.

# %%
metrics["drift"] = {"alpha": ALPHA, "false_positive_rate": false_positive_rate, "detection_rate": None}
if robustness:
    corrupted = {name: load_corruption(folder, name) for name in metrics["robustness"]}
    detection_rate = {
        name: {
            corruption: detection_rates(it, arrays[name], arrays["predicted"])
            for corruption, arrays in corrupted.items()
        }
        for name, it in drift_tests.items()
    }
    metrics["drift"]["detection_rate"] = detection_rate
    display(robustness_plots.drift_heatmap(detection_rate, "detection rate"))

# %% [markdown]
# Detection rate by batch size, of 50 batches each. The statistics detect a change of the images, the features a
# change of their representation: a corruption to which the network is invariant shows in the statistics alone.
#
# ## Images from elsewhere
# Labelled images that `external` names, judged by the same rule from image to input and the same thresholds. Nothing
# is fitted on them. Without any this section is empty.

# %%
known = np.flatnonzero(dataset.records["split"].isin(["train", "val"]))
save_hashes(project_path(product["training_hashes"]), (dataset.images[index] for index in known))
if external:
    calibration = Calibration(temperature, threshold, distance)
    reports = {
        source: external_images.evaluate_network(
            network, calibration, dataset.input_rule, project_path(source), read_hashes(project_path(product["training_hashes"])),
            drift_tests["statistics"], accelerator,
        )
        for source in external
    }  # fmt: skip
    with atomic_dir(project_path(product["metrics"]).parent / "external") as files:
        for number, (source, report) in enumerate(reports.items()):
            name = f"{number} {Path(source).stem}"
            write_json(files / f"{name}.json", report)
            external_table.write_sets_csv(files / f"{name}.csv", report)
            external_plots.save_external_sets(files / f"{name}.png", report)
            print(external_table.sets_table(report))
            display(external_plots.external_sets(report))

# %% [markdown]
# ## Checks

# %%
write_json(project_path(product["metrics"]), measures.check_metrics(metrics))
accuracy = metrics["test"]["accuracy"]
assert accuracy["ci_low"] <= accuracy["value"] <= accuracy["ci_high"]
assert metrics["test_without_leaks"]["accuracy"]["n"] == accuracy["n"] - dataset.metadata["test_leaked"]
assert after["accuracy"] == before["accuracy"] == accuracy, "a temperature changes no prediction"
helped = "lowers" if after["log_loss"]["value"] < before["log_loss"]["value"] else "does not lower"
print(f"On the test images of {metrics['data']}: {measures.describe_accuracy(metrics['test'])}.")
print(f"The temperature, fitted on {len(val):,} validation images, {helped} the log loss of the test images.")

# %% [markdown]
# Next: [05_compare_vgg](05_compare_vgg.ipynb) compares it with VGG16.

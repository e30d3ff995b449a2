# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 04 · Evaluate
# Judge the trained network on the test images, which nothing before has looked at, and on what may happen to images.
#
# **Reads** the pack of [01_data](01_data.ipynb) and the weights of [02_train](02_train.ipynb).
# **Writes** `predictions.csv`, made by one pass; `metrics.json`, computed from it; `drift.npz`, what known images are like.
# **Takes** a minute on the sample; on CIFAKE a minute on two cores, and half an hour more with the battery of conditions.

# %% tags=["parameters"]
unsure_error = 0.05  # type: float how many of the verdicts that are not UNSURE may be wrong
battery = True  # type: bool judge it under every condition too
battery_images = 150  # type: int of each of val and test, a fixed random choice (0: all)
accelerator = "auto"  # type: str auto, cpu or gpu
lib_hash = ""  # type: str set by the pipeline, so that an edit in lib makes this step stale
upstream = {"01_data": {"pack": "outputs/sample/01_data/pack/pack.json"}, "02_train": {"weights": "outputs/sample/02_train/weights.safetensors", "run": "outputs/sample/02_train/run.json"}}  # type: dict  # fmt: skip
product = {"nb": "outputs/sample/04_evaluate/04_evaluate.ipynb", "predictions": "outputs/sample/04_evaluate/predictions.csv", "metrics": "outputs/sample/04_evaluate/metrics.json", "drift": "outputs/sample/04_evaluate/drift.npz"}  # type: dict  # fmt: skip

# %%
from lib.parameters import check

check("04_evaluate", globals())

# %%
import numpy as np
import pandas as pd
from IPython.display import display

from lib import plots, plots_evaluation, plots_robustness
from lib.battery import EVIDENCE, battery_table, load_condition, run_battery
from lib.calibration import at_temperature, fit_temperature
from lib.drift import LEVEL, DriftTest, image_statistics, save_reference
from lib.drift_rates import alarm_rates, features_test, rates_table
from lib.explain import cases, grad_cam, surest_mistakes
from lib.files import project_path, read_json, write_json
from lib.metrics import check_metrics, evaluate, evaluate_test, percent, threshold_table
from lib.pack import open_pack
from lib.predictions import load_predictions, predict, save_predictions
from lib.selective import conformal_quantiles, evaluate_conformal, evaluate_unsure, unsure_below
from lib.weights import load_weights

plots.use_style()

# %% [markdown]
# ## Predict once
# Every figure down to the conditions is computed from this table.

# %%
pack = open_pack(project_path(upstream["01_data"]["pack"]).parent)
run = read_json(project_path(upstream["02_train"]["run"]))
weights = project_path(upstream["02_train"]["weights"])
network = load_weights(weights)
table, features = predict(network, pack, ("val", "test"), accelerator, views=True)
save_predictions(project_path(product["predictions"]), table, pack, weights)

# %%
predictions = load_predictions(project_path(product["predictions"]), pack, weights)
val, test = (predictions[predictions["split"] == split].reset_index(drop=True) for split in ("val", "test"))
images = pack.images[pack.rows("test")]
print(f"{run['parameters']['network']} trained on {run['data']['data']}, judged on {len(test):,} test images")
test.sample(5, random_state=0)

# %% [markdown]
# ## Figures
# FAKE is the positive class. Proportions have a 95 % Wilson interval, all else a 95 % bootstrap interval.

# %%
metrics = {"data": pack.facts["data"], "checksums": pack.facts["checksums"], **evaluate_test(predictions)}
columns = {"all test images": metrics["test"], "those not in train": metrics["test_not_in_train"]}
columns |= {"all, with one view": metrics["one_view"], "all, with two": metrics["two_views"]}
pd.DataFrame(
    {
        title: {"images": f"{figures['accuracy']['n']:,}"}
        | {
            f"{name} {of}".strip().replace("_", " "): percent(figure)
            for name, entry in figures.items()
            for of, figure in ({"": entry} if "value" in entry else entry).items()
        }
        for title, figures in columns.items()
    }
)

# %% [markdown]
# The first two columns differ by the test images that are copies of training images. Where they differ much, the
# network has learnt images by heart. Two views are an image and its mirror image; one of the last two columns is the first.
# (Log loss, too, is shown times 100.)

# %%
plots_evaluation.confusion(test)

# %% [markdown]
# Each row is what became of one class, with its share of it. The shares on the diagonal are the recalls above.

# %%
plots_evaluation.curves({"all test images": test, "those not in train": test[~test["in_train"]]})

# %% [markdown]
# How much is found while few photographs are accused is what counts in use: the left end of the first figure, which is
# logarithmic. In the last, straight lines are normal scores, and the lower left corner is perfection.

# %%
threshold_table(test)

# %% [markdown]
# ## Can its probabilities be taken at their word?
# One number, the temperature, divides the logits; it is fitted on validation images and changes no verdict.

# %%
temperature = fit_temperature(val)
calibrated = {"as trained": test, f"at temperature {temperature:.2f}": at_temperature(test, temperature)}
before, after = metrics["test"], evaluate(at_temperature(test, temperature))
metrics["calibration"] = {"temperature": temperature, "before": before, "after": after}
plots_evaluation.calibration(calibrated)

# %%
kept = ("calibration_error", "brier_score", "log_loss")
pd.DataFrame({title: {name: percent(of[name]) for name in kept}
              for title, of in zip(calibrated, (before, after), strict=True)})  # fmt: skip

# %% [markdown]
# On the diagonal a probability means what it says. The lower panels say how many images each bin rests on: most
# answers are near 0 or 1, so the bins between hold few.

# %% [markdown]
# ## When to say UNSURE
# Verdicts below a confidence are withheld; validation says which, so that the error among the others keeps a promise.

# %%
val_c, test_c = at_temperature(val, temperature), at_temperature(test, temperature)
threshold = unsure_below(val_c, unsure_error)
answer_from = np.inf if threshold is None else threshold  # without a promise nothing is answered
promise = {name: evaluate_unsure(part, answer_from) for name, part in (("val", val_c), ("test", test_c))}
metrics["selective"] = {"stated_error": unsure_error, "unsure_below": threshold, **promise}
plots_evaluation.unsure(val_c, test_c, unsure_error, threshold, promise["val"]["coverage"]["value"])

# %%
quantiles = conformal_quantiles(val_c, unsure_error)
metrics["conformal"] = {"miss": unsure_error, "quantiles": quantiles, "test": evaluate_conformal(test_c, quantiles)}
kept = {"answered": promise["test"]["coverage"], "errors among them": promise["test"]["error"],
        "errors among the UNSURE": promise["test"]["error_of_unsure"]}  # fmt: skip
sets = metrics["conformal"]["test"]
kept |= {f"conformal sets that hold {name}, of {name}": sets["coverage"][name] for name in quantiles}
kept |= {name.replace("_", " "): sets[name] for name in ("one_class", "both_classes", "no_class")}
pd.Series({name: percent(figure) for name, figure in kept.items()}, name=f"test, stated error {unsure_error:.1%}")

# %% [markdown]
# The line crosses the stated error where the unsure begin. Conformal sets make another promise: that the truth is
# in the set, for each class alone; images whose set holds both classes, or none, are the unsure ones there.

# %% [markdown]
# ## Where it fails, and where it looks

# %%
plots_evaluation.accuracies(
    {name: entry["accuracy"] for name, entry in metrics["object_class"].items()}, "by object class"
)

# %% [markdown]
# Where intervals do not overlap, an object class is truly harder. What the generator paints well differs from class to class.

# %%
wrong = surest_mistakes(test)
plots_evaluation.gallery(images[wrong], test.iloc[wrong])

# %% [markdown]
# The surest mistakes, with what they are and the probability that the network gave. On CIFAKE most are photographs, and many
# of those show one thing alone before a smooth ground.

# %%
rows = cases(test)
plots_evaluation.evidence_maps({name: (images[of], grad_cam(network, images[of])) for name, of in rows.items()})

# %% [markdown]
# Grad-CAM, scaled in each image: red speaks for FAKE, blue for REAL. Nearly every image holds both. The colours do not add
# up to the verdict, since the gradient is averaged over all places.

# %% [markdown]
# ## Under other conditions
# The same images after what transport, screens and cameras do. Once at the threshold of 0.5, once at the one that is best
# on validation images under the same condition: what that wins back was a lost threshold, what it does not, lost evidence.

# %%
metrics["robustness"] = metrics["evidence"] = None
folder = project_path(product["metrics"]).parent / "battery"
if battery:
    conditions = run_battery(network, pack, weights, folder, battery_images, accelerator)
    metrics["evidence"] = {name: entry for name, entry in conditions.items() if name in EVIDENCE}
    metrics["robustness"] = {name: entry for name, entry in conditions.items() if name not in EVIDENCE}
    display(plots_robustness.robustness(metrics["robustness"], published=pack.facts["data"] == "CIFAKE"))

# %%
if battery:
    display(battery_table(metrics["robustness"]))

# %% [markdown]
# Where both lines fall, training has to help (`degrade` of 02_train); where only the solid one falls, a threshold would.
# Open marks are what the best published study reached under the same condition.

# %%
if battery:
    display(plots_robustness.evidence(metrics["evidence"] | {"clean": metrics["robustness"]["clean"]}))
    display(battery_table(metrics["evidence"]))

# %% [markdown]
# What is left of the decision when frequencies above or below a limit, or one of luma and chroma, are taken away. A network
# never saw such images, so this shows what it leans on, not all that the rest could tell.

# %% [markdown]
# ## Does a batch of images come from the data that it knows?
# Kolmogorov–Smirnov tests against validation images: on the network's features, and on statistics that need no network.

# %%
fresh = np.random.default_rng(0).permutation(len(test))[:5000]
statistics = image_statistics(pack.images[pack.rows("val")])
save_reference(project_path(product["drift"]), statistics)
drift_tests = {"features": features_test(features[: len(val)]), "statistics": DriftTest(statistics)}
seen = {"features": features[len(val) :][fresh], "statistics": image_statistics(images[fresh])}
false_alarms = {name: alarm_rates(of, seen[name], batches=400) for name, of in drift_tests.items()}
rates_table(false_alarms)

# %% [markdown]
# Alarms on test images, of 400 random batches of each size. On CIFAKE they are false, and 5 % are allowed; on the sample,
# whose test images are cut from other parts of the photographs, they are right.

# %%
metrics["drift"] = {"level": LEVEL, "false_alarms": false_alarms, "power": None}
if battery:
    harmed = {name: load_condition(folder, name) for name in metrics["robustness"]}
    power = {
        name: {condition: alarm_rates(of, arrays[name]) for condition, arrays in harmed.items()}
        for name, of in drift_tests.items()
    }
    metrics["drift"]["power"] = power
    display(plots_robustness.alarms(power))

# %% [markdown]
# How many images it takes to notice: of 50 batches of each size. Statistics notice a change of look, features a change of what
# the network makes of it: what it has learnt to overlook shows on the right first, what upsets it alone on the left.

# %% [markdown]
# ## Checks

# %%
write_json(project_path(product["metrics"]), check_metrics(metrics))
accuracy = metrics["test"]["accuracy"]
assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
assert accuracy["low"] > 0.5, "no better than guessing"
assert metrics["test_not_in_train"]["accuracy"]["n"] == accuracy["n"] - pack.facts["test_in_train"]
assert after["accuracy"] == before["accuracy"] == accuracy, "a temperature changes no verdict"
assert after["log_loss"]["value"] <= before["log_loss"]["high"]
print(f"Test accuracy {percent(accuracy)} on {metrics['data']}")

# %% [markdown]
# Next: [05_compare_vgg](05_compare_vgg.ipynb) sets it beside VGG16.

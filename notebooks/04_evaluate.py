# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 04 · Evaluate
# Judge the trained network on the test images, which nothing before has looked at.
#
# **Reads** the pack of [01_data](01_data.ipynb) and the weights of [02_train](02_train.ipynb).
# **Writes** `predictions.csv`, made by one pass, and `metrics.json`, computed from it.
# **Takes** ten seconds on the sample; on CIFAKE a minute on two cores.

# %% tags=["parameters"]
accelerator = "auto"  # type: str auto, cpu or gpu
lib_hash = ""  # type: str set by the pipeline, so that an edit in lib makes this step stale
upstream = {"01_data": {"pack": "outputs/sample/01_data/pack/pack.json"}, "02_train": {"weights": "outputs/sample/02_train/weights.safetensors", "run": "outputs/sample/02_train/run.json"}}  # type: dict  # fmt: skip
product = {"nb": "outputs/sample/04_evaluate/04_evaluate.ipynb", "predictions": "outputs/sample/04_evaluate/predictions.csv", "metrics": "outputs/sample/04_evaluate/metrics.json"}  # type: dict  # fmt: skip

# %%
from lib.parameters import check

check("04_evaluate", globals())

# %%
import pandas as pd

from lib import plots
from lib.files import project_path, read_json, write_json
from lib.metrics import evaluate_test, percent
from lib.pack import open_pack
from lib.predictions import load_predictions, predict, save_predictions
from lib.weights import load_weights

plots.use_style()

# %% [markdown]
# ## Predict once
# Every figure below is computed from this table.

# %%
pack = open_pack(project_path(upstream["01_data"]["pack"]).parent)
run = read_json(project_path(upstream["02_train"]["run"]))
network = load_weights(project_path(upstream["02_train"]["weights"]))
save_predictions(project_path(product["predictions"]), predict(network, pack, ("val", "test"), accelerator))

# %%
predictions = load_predictions(project_path(product["predictions"]), pack.facts)
test = predictions[predictions["split"] == "test"].reset_index(drop=True)
print(f"{run['parameters']['network']} trained on {run['data']['data']}, judged on {len(test):,} test images")
test.sample(5, random_state=0)

# %% [markdown]
# ## Figures
# Proportions have a 95 % Wilson interval, the area under the ROC curve a 95 % bootstrap interval.

# %%
metrics = {"data": pack.facts["data"], "checksums": pack.facts["checksums"], **evaluate_test(predictions)}
if network.mirror:
    network.mirror = False
    metrics["one_view"] = evaluate_test(predict(network, pack, ("test",), accelerator))
write_json(project_path(product["metrics"]), metrics)

# %%
columns = {"all test images": metrics["test"], "those not in train": metrics["test_not_in_train"]}
if "one_view" in metrics:
    columns["all, without the mirrored view"] = metrics["one_view"]["test"]
pd.DataFrame(
    {
        title: {
            "images": f"{figures['accuracy']['n']:,}",
            "accuracy": percent(figures["accuracy"]),
            "FAKE recall": percent(figures["recall"]["FAKE"]),
            "REAL recall": percent(figures["recall"]["REAL"]),
            "area under ROC (%)": percent(figures["roc_auc"]),
            "expected calibration error": f"{100 * figures['calibration_error']['value']:.2f} %",
        }
        for title, figures in columns.items()
    }
)

# %% [markdown]
# The first two columns differ by the test images that are copies of training images. Where they differ much, the
# network has learnt images by heart.

# %%
plots.confusion(test)

# %%
plots.roc({"all test images": test, "those not in train": test[~test["in_train"]]})

# %% [markdown]
# The false positive rate is logarithmic: how much is found while few photographs are accused is what counts in use.

# %%
plots.calibration(test)

# %% [markdown]
# On the diagonal a probability can be taken at its word. The lower panel says how many images each bin rests on.

# %% [markdown]
# ## Where it fails

# %%
plots.accuracies(metrics["accuracy_by_object_class"], "by object class")

# %%
wrong = plots.surest_mistakes(test)
plots.mistakes(pack.images[pack.rows("test")[wrong]], test, wrong)

# %% [markdown]
# The surest mistakes, with what they are and the probability that the network gave.

# %% [markdown]
# ## Checks

# %%
accuracy = metrics["test"]["accuracy"]
assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
assert accuracy["low"] > 0.5, "no better than guessing"
assert metrics["test_not_in_train"]["accuracy"]["n"] == accuracy["n"] - pack.facts["test_in_train"]
print(f"Test accuracy {percent(accuracy)} on {metrics['data']}")

# %% [markdown]
# Next: [05_compare_vgg](05_compare_vgg.ipynb) sets it beside VGG16.

"""Tell camera images from AI-generated ones on CIFAKE.

One image goes this way: source → packed dataset → batches → network → predictions → metrics
(lib.data → lib.models, lib.training → lib.evaluation).
"""

import getpass
import os
import tempfile

CLASSES = ("FAKE", "REAL")  # index 0 and 1: folders, labels, logits, JSON
OBJECT_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

# Threads that wait sleep instead of spinning, which costs nothing alone; two processes side by side are twice as fast.
# OpenMP reads it when PyTorch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Or ONNX Runtime writes to the home folder and looks for a host to report to; it reads this when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# Or W&B reports its errors to its maker, offline too: it looks for the host as it starts.
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
# A container may run as a user without a name and a home: PyTorch and others fail then as they look for them.
try:
    getpass.getuser()
except (ImportError, KeyError, OSError):
    os.environ["USER"] = str(getattr(os, "getuid", int)())
if os.path.expanduser("~") == "~":  # noqa: PTH111 (Path.home raises an error instead)
    os.environ["HOME"] = tempfile.gettempdir()

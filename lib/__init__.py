"""Tell camera images from AI-generated ones on CIFAKE.

One image goes this way: `source` → `pack` → `batches` → `networks` → `training` → `predictions` → `metrics`.
"""

CLASSES = ("FAKE", "REAL")  # index 0 and 1: folders, labels, logits, JSON
OBJECT_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

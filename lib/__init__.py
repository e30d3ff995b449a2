"""Tell camera images from AI-generated ones on CIFAKE.

One image goes this way: `source` → `pack` → `batches` → `networks` → `training` → `predictions` → `metrics`.
"""

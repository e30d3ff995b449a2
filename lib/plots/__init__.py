"""Figures, each drawn by a function from results that are already computed."""

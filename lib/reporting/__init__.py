"""The report of a pipeline run, and the released files."""

"""Data, from a source of images over the packed dataset to augmented batches on the training device."""

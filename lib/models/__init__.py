"""Network architectures, ensembles of them, weight files, and the choice of device."""

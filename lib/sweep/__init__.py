"""Grid, random and Bayesian hyperparameter search over 02_train."""

"""Every robustness suite on one checkpoint: suites as data, one compiled predict, scores as pure functions."""

"""Learning using annotation byproducts (LUAB) in JAX: training, evaluation and the data they share."""

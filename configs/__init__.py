"""One experiment per file; the values are in `luab_jax/recipes.py`, which is installed with the package."""

"""Backbones, classifier and byproduct head behind one functional wall.

`luab_jax.models.functional` is the door: `create_model`, plain dicts and pure functions. `config`
needs neither jax nor flax, so this file imports nothing: reading a config must not load an
accelerator library.
"""

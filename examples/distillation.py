"""Distillation (Hinton et al. 2015) on top of LUAB: a teacher that was trained before tells how sure to be.

    python -m luab_jax.main --config=resnet18 --config.data.root=DATA --workdir=RUNS/student \\
        --config.loss=python:examples/distillation.py:distil --config.loss_argument=RUNS/teacher

The teacher is a run's workdir or `timm:NAME:FILE.safetensors`, of the same classes and image size. Its weights become
constants of the compiled step.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

import luab_jax
from luab_jax.training.own_loss import StepInputs

TEMPERATURE, SHARE = 4.0, 0.5


def distil(config: luab_jax.Config) -> Callable[[StepInputs], tuple[jax.Array, dict[str, jax.Array]]]:
    """The loss (1 - SHARE) · LUAB + SHARE · T² · KL(teacher ‖ student) of logits over T."""
    if not config.loss_argument:
        raise luab_jax.ConfigError("--config.loss_argument=TEACHER is missing: the teacher's workdir or timm:NAME:FILE")
    teacher = luab_jax.load(config.loss_argument).loaded
    wanted, given = config.data.preprocessing, teacher.preprocessing
    if (given.image_size, given.mean, given.std) != (wanted.image_size, wanted.mean, wanted.std):
        raise luab_jax.ConfigError(f"the teacher sees {given}, the student {wanted}: size, mean or std differ")
    params, batch_stats = jax.device_get((teacher.params, teacher.batch_stats))

    def loss(inputs: StepInputs) -> tuple[jax.Array, dict[str, jax.Array]]:
        taught, _ = teacher.model.apply(params, batch_stats, inputs.images, train=False, head=False)
        expected = jax.nn.log_softmax(taught.logits / TEMPERATURE)
        found = jax.nn.log_softmax(inputs.outputs.logits / TEMPERATURE)
        divergence = TEMPERATURE**2 * jnp.mean(jnp.sum(jnp.exp(expected) * (expected - found), axis=-1))
        return (1 - SHARE) * inputs.loss + SHARE * divergence, {"distillation_loss": divergence}

    return loss

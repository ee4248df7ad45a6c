"""What the recipes take from torch and timm, beside torch and timm: `python -m benchmarks.recipe_parity`.

Needs torch, torchvision and timm, which the library does not. Prints the largest differences of the learning rate over
DeiT's 300 epochs, of BatchNorm's running variance, and the bounds of initial weights.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import timm  # pyright: ignore[reportMissingImports]
import torch  # pyright: ignore[reportMissingImports]
import torchvision  # pyright: ignore[reportMissingImports]
from flax import nnx
from timm.scheduler.cosine_lr import CosineLRScheduler  # pyright: ignore[reportMissingImports]

from luab_jax.config import OptimConfig, Schedule
from luab_jax.models.layers import BatchNorm, torch_uniform
from luab_jax.training.optim import make_schedule

_EPOCHS, _STEPS_PER_EPOCH = 300, 1_281_167 / 1024


def rates_of_timm(delay: int) -> np.ndarray:
    """The rate that each epoch is trained with, when the scheduler is stepped with the epoch's number less `delay`."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    scheduler = CosineLRScheduler(optimizer, t_initial=_EPOCHS, lr_min=1e-5, warmup_t=5, warmup_lr_init=1e-6)
    rates = []
    for epoch in range(_EPOCHS):
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step(epoch + 1 - delay)
    return np.asarray(rates)


def rates_here(kind: Schedule) -> np.ndarray:
    config = OptimConfig(learning_rate=1e-3, final_learning_rate=1e-5, schedule=kind, warmup_epochs=5.0)
    schedule = make_schedule(
        config,
        total_steps=round(_EPOCHS * _STEPS_PER_EPOCH),
        warmup_steps=round(5 * _STEPS_PER_EPOCH),
        steps_per_epoch=_STEPS_PER_EPOCH,
    )
    middles = (np.arange(_EPOCHS) + 0.5) * _STEPS_PER_EPOCH
    return np.asarray(jax.vmap(schedule)(jnp.asarray(middles, jnp.int32)))


def running_variance(*, unbiased: bool) -> float:
    """The largest difference from torch's after a batch of 64 values per channel."""
    values = np.random.default_rng(0).normal(size=(4, 4, 4, 3)).astype(np.float32)
    theirs = torch.nn.BatchNorm2d(3)
    theirs(torch.tensor(values).permute(0, 3, 1, 2))
    ours = BatchNorm(3, rngs=nnx.Rngs(0))
    ours.unbiased = unbiased
    ours(jnp.asarray(values), use_running_average=False)
    return float(np.abs(np.asarray(ours.var[...]) - theirs.running_var.numpy()).max())  # pyright: ignore[reportOptionalMemberAccess]


def main() -> None:
    for kind, delay in ((Schedule.TIMM, 0), (Schedule.DEIT, 1)):
        theirs = rates_of_timm(delay)
        print(f"optim.schedule={kind.value}: within {np.max(np.abs(rates_here(kind) / theirs - 1)):.0e} of timm")
    difference = np.abs(rates_here(Schedule.PER_STEP) - rates_of_timm(1)) / 1e-3
    print(f"per_step in the middle of epoch 4: {difference[4]:.0%} of the peak from DeiT's")
    for unbiased in (False, True):
        apart = running_variance(unbiased=unbiased)
        print(f"running variance, batch_norm_unbiased={unbiased}: within {apart:.0e} of torch")
    linear = torchvision.models.resnet50().fc
    here = torch_uniform(2048)(jax.random.key(0), (2048, 1000), jnp.float32)
    print(f"classifier: |w| <= {linear.weight.abs().max():.5f} (torchvision), {np.abs(here).max():.5f} (here)")
    patches = timm.create_model("deit_tiny_patch16_224").patch_embed.proj  # pyright: ignore
    print(f"patch embedding: |w| <= {patches.weight.abs().max():.5f} (timm), {768**-0.5:.5f} (bound here)")


if __name__ == "__main__":
    main()

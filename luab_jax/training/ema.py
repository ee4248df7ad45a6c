"""The exponential moving average of a model, which is often better than its last step (Polyak & Juditsky 1992)."""

from __future__ import annotations

from typing import Any

import jax


def start(params: Any, batch_stats: Any) -> dict[str, Any]:
    """The average before the first step is the model itself, as in timm."""
    return {"params": params, "batch_stats": batch_stats}


def update(ema: dict[str, Any], params: Any, batch_stats: Any, *, decay: float) -> dict[str, Any]:
    """decay · average + (1 - decay) · model, of parameters and of BatchNorm's running statistics alike.

    Constant decay, once per optimiser step, buffers too: timm's `ModelEmaV2`, which DeiT's 0.99996 is for. Written as
    average + (1 - decay) · (model - average), because float32's decay and 1 - decay do not add up to one: near 1 the
    average would shrink or grow by up to a thousandth.
    """
    new = start(params, batch_stats)
    return jax.tree.map(lambda average, value: average + (1.0 - decay) * (value - average), ema, new)

"""When two configs are the same experiment: the fields that decide what a run computes, and their hash."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from luab_jax.augmentation.config import AugmentationConfig
from luab_jax.byproducts.targets import Target
from luab_jax.config.experiment import Config
from luab_jax.config.plain import flatten
from luab_jax.models.config import PRESETS, BatchNorm

_OPERATIONAL = (
    "data.root",
    "data.cache",
    "data.num_threads",
    "data.workers",
    "data.prefetch_examples",
    "mesh.",
    "checkpoint.",
    "eval.",
    "log.",
    "distributed.",
    "compilation_cache",
    "model.remat",
    "model.attention",
)
"""Fields that may change when a run resumes: where and how it runs, not what it computes."""


VALUES_BEFORE: dict[str, Any] = {
    "accumulation_steps": 1,
    "extended_at": [],
    "data.workers": 0,
    "data.decoder": "cpu",
    "log.input_check": True,
    "optim.ema_decay": 0.0,
    "optim.schedule": "per_step",
    "optim.warmup_learning_rate": 0.0,
    "model.batch_norm": "global",
    "model.batch_norm_images": 256,
    "model.batch_norm_unbiased": False,
    "model.classifier_init": "normal",
    "model.patch_embed_init": "normal",
    "byproduct.heat_map_side": 7,
    "byproduct.min_annotator_images": 20,
    "byproduct.max_annotators": 4096,
    "byproduct.sample_weight": "none",
    "byproduct.more": [],
    "byproduct.weight_schedule": "constant",
    "byproduct.weight_epochs": None,
    "byproduct.head": None,
    "byproduct.hidden": None,
    "byproduct.pool": None,
    "byproduct.block": None,
    "byproduct.heat_sigma": 0.1,
    "byproduct.target_sample_weight": "none",
    "model.registers": None,
    "model.mlp": None,
    "model.layer_scale": None,
    "model.byproduct_head": "linear",
    "model.byproduct_hidden": None,
    "model.byproduct_pool": "classifier",
    "init_from": "",
    "loss": "",
    "loss_argument": "",
    "data.cache": "",
    "data.shuffle_shards": 0,
    **flatten(AugmentationConfig(), "augmentation."),
}
"""Fields that came after the first release, with the value that runs from before it have. Where a config has that value
it is left out of the experiment, so that such runs resume and keep the hash of their config."""


def scientific_fields(config: Any) -> dict[str, Any]:
    """The fields that decide what a run computes."""
    flat = flatten(config)
    if flat.get("model.patch_size", 0) is None and getattr(PRESETS.get(flat["model.name"]), "patch_size", 16) == 16:
        flat["model.patch_size"] = 16  # as every run of earlier versions has it
    fields = {k: v for k, v in flat.items() if not k.startswith(_OPERATIONAL) and k not in _without_effect(flat)}
    return {k: v for k, v in fields.items() if k not in VALUES_BEFORE or v != VALUES_BEFORE[k]}


def _without_effect(flat: dict[str, Any]) -> set[str]:
    """Fields that another field makes meaningless."""
    idle = set()
    if flat.get("optim.warmup_epochs") == 0:
        idle.add("optim.warmup_learning_rate")
    if flat.get("model.batch_norm") != BatchNorm.GROUPS.value:
        idle.add("model.batch_norm_images")
    targets = [name for name in flat if name.startswith("byproduct.") and name.endswith("target")]
    if Target.RANDOM.value not in {flat[name] for name in targets}:
        idle.add("byproduct.random_point")
    return idle


def differences(old: Any, new: Any) -> dict[str, tuple[Any, Any]]:
    """Scientific fields in which two configs differ: name to (old, new)."""
    a, b = VALUES_BEFORE | scientific_fields(old), VALUES_BEFORE | scientific_fields(new)
    return {k: (a.get(k), b.get(k)) for k in sorted(a | b) if a.get(k) != b.get(k)}


def config_hash(config: Config) -> str:
    text = json.dumps(scientific_fields(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]

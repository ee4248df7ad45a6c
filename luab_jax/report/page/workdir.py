"""What a run's workdir holds now: its log, if it is still that of the run whose results are shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from luab_jax.io import storage
from luab_jax.io.wording import counted
from luab_jax.results.format import Checkpoint
from luab_jax.results.text import printable

NOT_STATED: dict[str, Any] = {
    "accumulation_steps": 1,
    "extended_at": [],
    "init_from": "",
    "loss": "",
    "loss_argument": "",
    "data.decoder": "cpu",
    "data.shuffle_shards": 0,
    "optim.ema_decay": 0.0,
    "optim.schedule": "per_step",
    "model.batch_norm": "global",
    "model.batch_norm_unbiased": False,
    "model.classifier_init": "normal",
    "model.patch_embed_init": "normal",
    "model.registers": None,
    "model.mlp": None,
    "model.layer_scale": None,
    "model.byproduct_head": "linear",
    "model.byproduct_hidden": None,
    "model.byproduct_pool": "classifier",
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
    "augmentation.enabled": True,
    "augmentation.colour_jitter": 0.0,
    "augmentation.lighting": 0.0,
    "augmentation.rand_augment_magnitude": 0.0,
    "augmentation.rand_augment_std": 0.5,
    "augmentation.rand_augment_probability": 0.5,
    "augmentation.erasing": 0.0,
    "augmentation.mixup": 0.0,
    "augmentation.cutmix": 0.0,
    "augmentation.mix_switch_probability": 0.5,
    "augmentation.mix_draws": 1,
    "augmentation.repeats": 1,
}
"""The values at which an experiment does not state a field, as in `luab_jax.config.VALUES_BEFORE`, which needs cv2."""
_LENGTHS = ("epochs", "total_steps", "extended_at")
"""Fields that an extension of a run changes."""


def read_log(checkpoint: Checkpoint) -> tuple[list[dict[str, Any]], str]:
    """The lines of the run's log, torn ones left out, or none and why they are not those of the run.

    Neither where there is no log. Raises `UserError` for a bucket that cannot be read, `OSError` for a file.
    """
    folder = storage.place(checkpoint.workdir)
    if storage.facts(folder / "metrics.jsonl") is None:
        return [], ""
    if storage.facts(folder / "config.json") is not None:
        config = _config(folder)
        if config is None:
            return [], f"{checkpoint.workdir}: config.json is not that of a run"
        if changed := _changed(checkpoint, config):
            return [], f"{checkpoint.workdir} holds another run now: {changed}"
    text = storage.read_all(folder / "metrics.jsonl").decode("utf-8", "replace")
    lines = [line for line in map(_parsed, text.splitlines()) if line is not None]
    last = max((line["step"] for line in lines), default=checkpoint.step)
    if last < checkpoint.step:
        ends = f"its metrics.jsonl ends at step {last:,.0f}, the results are of step {checkpoint.step:,}"
        return [], f"{checkpoint.workdir} does not hold the whole run: {ends}"
    return lines, ""


def _config(folder: storage.Place) -> dict[str, Any] | None:
    """That of the run in a workdir, flat; None if no run wrote it."""
    try:
        found = json.loads(storage.read_all(folder / "config.json"))
        return _flat(found) if isinstance(found, dict) else None
    except (ValueError, RecursionError):
        return None


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """As `luab_jax.config.flatten`: of a list of byproducts each under its target, as in `more.box.weight`."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, list) and value and all(isinstance(item, dict) and "target" in item for item in value):
            value = {str(item["target"]): item for item in value}
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _changed(checkpoint: Checkpoint, config: Mapping[str, Any]) -> str:
    """In what the config of a workdir is not that of a checkpoint; empty if in nothing."""
    stated = checkpoint.experiment | {"seed": checkpoint.seed}
    names = [*stated, *(name for name in config if name not in stated and (name in NOT_STATED or _is_of_more(name)))]
    if _is_extended(checkpoint, config):
        names = [name for name in names if name not in _LENGTHS]
    values = {name: (stated.get(name, NOT_STATED.get(name)), config.get(name)) for name in names}
    changed = {name: both for name, both in values.items() if not _are_same(name, *both, config)}
    if not changed:
        return ""
    name, (here, there) = next(iter(changed.items()))
    more = f", and {counted(len(changed) - 1, 'field')} more" if len(changed) > 1 else ""
    return printable(f"its {name} is {there!r:.60}, that of the results {here!r:.60}{more}")


def _is_of_more(name: str) -> bool:
    """Whether it is a field of a further byproduct, which an experiment with one does not have."""
    return name.startswith("byproduct.more.")


def _is_extended(checkpoint: Checkpoint, config: Mapping[str, Any]) -> bool:
    """Whether the run was given more epochs after the checkpoint, so that its log begins with that of the results."""
    before, now = checkpoint.experiment.get("extended_at", []), config.get("extended_at", [])
    if not isinstance(before, list) or not isinstance(now, list) or now[: len(before)] != before:
        return False
    later = now[len(before) :]
    return bool(later) and isinstance(later[0], int) and checkpoint.step <= later[0]


def _are_same(name: str, here: object, there: object, config: Mapping[str, Any]) -> bool:
    """With what older versions stored otherwise than an experiment states it; see `luab_jax.config.versions`."""
    if name == "model.patch_size" and (here, there) in ((16, None), (None, 16)):
        return True
    if name == "byproduct.target" and (here, there) == ("random_in_image", "random"):
        return "byproduct.random_point" not in config
    return here == there


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) and is_number(line.get("step")) else None


def is_number(value: object) -> bool:
    """A number that a plot can show."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12

"""Whether the data has what a run is to learn from: without it LUAB would be a baseline that nobody recognises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from luab_jax.byproducts.geometry import identity
from luab_jax.byproducts.kinds import TargetSettings
from luab_jax.byproducts.targets import Target, make_target, scored_target
from luab_jax.config import Config
from luab_jax.config.byproduct import named_entries
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.features import Example
from luab_jax.data.pipeline import num_cores
from luab_jax.distributed import sharding
from luab_jax.errors import DataError
from luab_jax.io.console import Progress, say

_SAMPLE = 256
"""Records that every run looks at, spread over the split."""
_CHUNK = 64


def check_targets(
    config: Config,
    train_split: PreparedSplit,
    eval_split: PreparedSplit,
    num_classes: int | None,
    settings: TargetSettings,
) -> None:
    """Raises `DataError` if no record of the training split has the target, or the icons that labels are to follow.

    Says in how many of a few hundred records it was found, and if the evaluation split has none to score by. All
    records are read only where none of these has it; the hosts share that.
    """
    entries = {entry.target: (name, entry) for name, entry in named_entries(config.byproduct)}
    wanted = list(entries)
    if config.byproduct.label_follows_point:
        wanted.append(Target.COCO_FINAL)
    is_first = jax.process_index() == 0
    for target in dict.fromkeys(wanted):

        def has_target(index: int, target: Target = target, split: PreparedSplit = train_split) -> bool:
            byproducts = Example(split.records[index]).byproducts()
            made = make_target(
                target, byproducts, identity(), seed=config.seed, num_classes=num_classes, settings=settings
            )
            return bool(made.valid.any())

        sample, found = _count(has_target, len(train_split.records))
        if not found and not _anywhere(has_target, train_split):
            _refuse(config, train_split, target)
        if target not in entries:
            continue
        name, entry = entries[target]
        say(f"target {target.value}: found in {found:,} of the {sample:,} records checked", active=is_first)
        if not entry.weight:
            alone = (
                "the backbone is trained as a baseline's" if len(entries) == 1 else "the backbone learns nothing of it"
            )
            say(f"{name}.weight is 0: {alone}", active=is_first)
        scored = scored_target(target, num_classes)
        _, in_eval = _count(lambda i: has_target(i, scored, eval_split), len(eval_split.records))  # noqa: B023
        if not in_eval:
            say(
                f"the split {eval_split.manifest.split!r} seems to have no {scored.value}: the head is trained but"
                " cannot be scored there",
                active=is_first,
            )


def _count(has_target: Callable[[int], bool], num_records: int) -> tuple[int, int]:
    """(records looked at, records with the target), the same on every host."""
    indices = np.unique(np.linspace(0, num_records - 1, min(_SAMPLE, num_records)).astype(int)).tolist()
    with ThreadPoolExecutor(num_cores()) as pool:
        return len(indices), sum(pool.map(has_target, indices))


def _anywhere(has_target: Callable[[int], bool], split: PreparedSplit) -> bool:
    """Whether any record has it: each host reads its share until it finds one."""
    first, last = (
        len(split.records) * process // jax.process_count()
        for process in (jax.process_index(), jax.process_index() + 1)
    )
    chunks = [range(start, min(start + _CHUNK, last)) for start in range(first, last, _CHUNK)]

    def in_chunk(indices: Sequence[int]) -> bool:
        return any(has_target(index) for index in indices)

    found = False
    title = f"byproducts of {split.manifest.split}"
    with (
        Progress(title, None, active=jax.process_index() == 0) as progress,
        ThreadPoolExecutor(num_cores()) as pool,
    ):
        for start in range(0, len(chunks), num_cores()):
            some = chunks[start : start + num_cores()]
            found = any(pool.map(in_chunk, some))
            progress.advance(sum(map(len, some)))
            if found:
                break
    return "found" in sharding.gather("found" if found else "none")


def _refuse(config: Config, split: PreparedSplit, target: Target) -> None:
    is_entry, alone = target in config.byproduct.targets, not config.byproduct.more
    lacking = "the byproducts that the control is matched to" if target is Target.RANDOM else f"a {target.value}"
    if not is_entry:
        what, effect = "config.byproduct.label_follows_point=True", "would train a baseline"
        remedy = "set config.byproduct.label_follows_point=False"
    elif alone:
        what, effect = f"config.byproduct.target={target.value}", "would train a baseline"
        remedy = "set config.byproduct.target=none for the baseline"
    else:
        name = next(name for name, entry in named_entries(config.byproduct) if entry.target is target)
        what, effect = f"{name}.target={target.value}", "would train nothing"
        remedy = "leave that entry out"
    raise DataError(
        f"{split.directory}: none of the {len(split.records):,} records of the split {split.manifest.split!r} has"
        f" {lacking}, so {what} {effect}. Prepare the data with byproducts, choose a target that it has,"
        f" or {remedy}"
    )

"""From what a suite's score function gives to the suite's entry in results.json, and to its answers beside that."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

from luab_jax.data.transforms import ANY_SIZE, Stored
from luab_jax.evaluation import definitions
from luab_jax.evaluation.accumulator import Evaluated
from luab_jax.evaluation.suite import Suite
from luab_jax.results import format as results_format
from luab_jax.results.answers import Sample
from luab_jax.results.score import COUNT, NUMBER, Role, Score

_N, _GROUPS, _PARTIAL = "n", "groups", "partial"


def suite_entry(
    suite: Suite, scored: Mapping[str, object], data: results_format.Data, loaded: Evaluated, seconds: float
) -> results_format.Suite:
    """The entry of a suite.

    Of `scored`, a `Score` carries its meaning, a whole number is a count, any other number a score without a unit, `n`
    the number of images, `groups` a score for each group; `partial` says that conditions are missing. Whatever else
    there is goes to `details`.
    """
    entries: dict[str, results_format.Entry] = {}
    details: dict[str, Any] = {}
    applied = applied_to(suite, loaded)
    for name, value in scored.items():
        if name in (_N, _GROUPS, _PARTIAL):
            continue
        entry = _entry(value, is_headline=name == suite.headline)
        if entry is None:
            details[name] = value
            continue
        entry.protocol = suite.protocols.get(name, "").replace("{preprocessing}", applied)
        entries[name] = entry
    data.partial = data.partial or bool(scored.get(_PARTIAL, False))
    return results_format.Suite(
        n=_count(scored),
        scores=entries,
        title=_title(suite, data.dataset, loaded.class_list_hash),
        group=suite.group,
        protocol=suite.protocol,
        definition=definitions.of_suite(suite),
        preprocessing=applied,
        dtype=dtype_of(loaded.identity),
        weights=weights_of(loaded.identity),
        data=data,
        groups={str(name): float(value) for name, value in dict(scored.get(_GROUPS, {})).items()},  # pyright: ignore
        details=details,
        seconds=round(seconds, 2),
    )


def _count(scored: Mapping[str, object]) -> int:
    n = scored.get(_N)
    if isinstance(n, bool) or not isinstance(n, numbers.Integral):
        raise TypeError(f"`n`, the number of images, is {n!r:.40}")
    return int(n)


def _title(suite: Suite, dataset: str, class_list_hash: str) -> str:
    """Empty for the suite's own name; else that of the data, so that `imagenet` is ImageNet wherever it stands."""
    named = suite.named_after
    if named is None or named.is_met(dataset, class_list_hash):
        return ""
    return dataset if suite.name in named.datasets else f"{dataset} {suite.name}"


def _entry(value: object, *, is_headline: bool) -> results_format.Entry | None:
    """None for what is no number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    if isinstance(value, numbers.Integral):
        return results_format.Entry(value=float(value), unit=COUNT, role=Role.COUNT)
    score = value if isinstance(value, Score) else Score(float(value), NUMBER)
    return results_format.Entry(
        value=float(score),
        unit=score.unit,
        direction=score.direction,
        role=Role.HEADLINE if is_headline else score.role,
        interval=score.interval,
        method=score.method if score.interval is not None else "",
    )


def samples(scored: Mapping[str, object]) -> dict[str, Sample]:
    """By which the scores can be compared with another run's."""
    return {
        name: value.sample for name, value in scored.items() if isinstance(value, Score) and value.sample is not None
    }


def dtype_of(identity: Mapping[str, Any]) -> str:
    """Of activations and matrix products."""
    return str(identity.get("dtype", ""))


def weights_of(identity: Mapping[str, Any]) -> str:
    return "average" if identity.get("weights") == "ema" else "raw"


def applied_to(suite: Suite, loaded: Evaluated) -> str:
    """What is done to the images of a suite before the model sees them; of parts that differ, of each."""
    if suite.preprocessing:
        return suite.preprocessing.replace("{side}", str(loaded.preprocessing.image_size))
    return "; ".join(dict.fromkeys(in_words(loaded, part.stored) for part in suite.parts.values()))


def in_words(loaded: Evaluated, stored: Stored = ANY_SIZE) -> str:
    """`short side to 256 (bilinear), centre crop 224`."""
    stated = loaded.preprocessing
    if stored.side is not None:
        side = loaded.side_for(stored)
        if side == stored.side:
            return f"as stored, squares of {side} px, no resizing"
        return f"stored squares of {stored.side} px resized to {side} ({stated.filter.value})"
    border = f"border of {stored.border} px cut, " if stored.border else ""
    if stated.resize_side is None:
        return f"{border}as stored, squares of {stated.image_size} px, no resizing"
    resized = f"short side to {stated.resize_side} ({stated.filter.value})"
    return f"{border}{resized}, centre crop {stated.image_size}"

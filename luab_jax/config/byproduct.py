"""Annotation byproducts of an experiment: which targets are regressed, by what heads, and how much each counts.

    config.byproduct = several(
        Byproduct(target=Target.CLICK_LAST, weight=10.0),
        Byproduct(target=Target.TRACE_HEAT_MAP, weight=1.0, head=Head.DENSE),
    )

On a command line the first is `--config.byproduct.target=...`, the others go by their target's name:
`--config.byproduct.more=trace_heat_map,box --config.byproduct.more.box.weight=3`.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from luab_jax.byproducts.kinds import RandomPoint, TargetKind, TargetSettings
from luab_jax.byproducts.responses import SampleWeight
from luab_jax.byproducts.targets import Target, fits, head_shape, kind_of
from luab_jax.errors import ConfigError
from luab_jax.models.config import ByproductPool, Head, HeadSpec, ModelConfig, check_head


class WeightSchedule(enum.Enum):
    """How λ goes over a run."""

    CONSTANT = "constant"
    """λ at every step."""
    WARMUP = "warmup"
    """From 0 in a line to λ over the first `weight_epochs`, then λ."""
    COSINE = "cosine"
    """From λ by half a cosine to 0 over the first `weight_epochs`, then 0."""


@dataclass(slots=True, kw_only=True)
class Byproduct:
    """One byproduct that a run regresses."""

    target: Target = Target.CLICK_LAST
    """`none` gives the baseline, `random` the control that is matched to the clicks."""
    weight: float = 1.0
    """λ of the combined loss. What suits depends on the target: an early smooth-L1 of places is about 0.1, that of
    standardised numbers 0.4, a divergence or cross-entropy 2 and more. The loss is a mean over the images that have the
    target: where these are a tenth, each weighs ten times as much."""
    weight_schedule: WeightSchedule = WeightSchedule.CONSTANT
    """How λ goes over the run; `warmup` and `cosine` need `weight_epochs`."""
    weight_epochs: float | None = None
    """How many epochs λ rises (`warmup`) or falls to 0 (`cosine`)."""
    smooth_l1_beta: float = 1.0
    """Where smooth-L1 turns from quadratic to linear, in fractions of the crop (of numbers: in standard deviations); 1
    is torch's default."""
    head: Head | None = None
    """Form of this byproduct's head; None takes `config.model.byproduct_head`."""
    hidden: int | None = None
    """Units of a hidden layer of this head; None takes `config.model.byproduct_hidden`."""
    pool: ByproductPool | None = None
    """Which features this head reads; None takes `config.model.byproduct_pool`, a dense head always the map."""
    block: int | None = None
    """After which residual block (1 is the first) this head reads its features; None: after the last."""
    heat_sigma: float = 0.1
    """Dense head of a point: standard deviation of the Gaussian that it learns, in fractions of the crop."""
    target_sample_weight: SampleWeight = SampleWeight.NONE
    """By what this byproduct's loss of an image is weighted, as `sample_weight` says: quick, uncorrected answers weigh
    more."""

    @classmethod
    def of_text(cls, text: str) -> tuple[Byproduct, ...]:
        """`box,time_to_click` as entries with all else by default; raises ValueError for what is no target."""
        names = [name.strip() for name in text.strip("()[] ").split(",") if name.strip()]
        return tuple(cls(target=Target(name)) for name in names)


@dataclass(slots=True, kw_only=True)
class ByproductConfig(Byproduct):
    """The first byproduct, which the paper's experiments have alone, and what all share."""

    more: tuple[Byproduct, ...] = ()
    """Further byproducts, regressed in the same pass by a head each; on a command line by their targets' names, and
    then a field of one as in `more.box.weight=3`."""
    random_point: RandomPoint = RandomPoint.PER_IMAGE
    """Whether the point of `random` stays the same in all crops of an image."""
    label_follows_point: bool = False
    """For sets of labels: a class whose icon lies outside of the training crop gets label 0, a class without an icon
    keeps its 1. The paper's COCO loader (coco_dataloader.ipynb) does so, since a crop at 8 % of the area often loses
    the object; its ImageNet loader only masks the regression. Off by default: with it labels come from byproducts too,
    in the baseline (target `none`) as well, and a gain of LUAB would mix with that of cleaner labels. A class of which
    another instance is still in the crop loses its label wrongly."""
    heat_map_side: int = 7
    """G of `trace_heat_map`: the crop is cut into G² cells."""
    min_annotator_images: int = 20
    """`annotator`: those who selected fewer images of the training split are no class of their own, nor of another."""
    max_annotators: int = 4096
    """`annotator`: at most so many classes, those with most images."""
    sample_weight: SampleWeight = SampleWeight.NONE
    """By what the classification loss of an image with one label is weighted: quick, uncorrected answers weigh more.
    w = 1 / (1 + t / τ), τ the geometric mean of the training split's times to click, or w = 1 / (1 + corrections);
    scaled to mean one over the images of the global batch that have a byproduct, 1 for those without. Independent of
    the target. That easy examples teach more is an assumption (Bengio et al., Curriculum Learning, ICML 2009), and so
    is that a corrected click marks a doubtful label."""

    @property
    def entries(self) -> tuple[Byproduct, ...]:
        """All that are regressed, the first of them this itself; empty for the baseline."""
        return () if self.target is Target.NONE else (self, *self.more)

    @property
    def targets(self) -> tuple[Target, ...]:
        """Theirs."""
        return tuple(entry.target for entry in self.entries)

    def with_entries(self, entries: Sequence[Byproduct]) -> ByproductConfig:
        """Others in place of its own; the baseline without any."""
        first, *more = [_plain(entry) for entry in entries] or [Byproduct(target=Target.NONE)]
        return dataclasses.replace(self, **_fields(first), more=tuple(more))


def several(*entries: Byproduct) -> ByproductConfig:
    """Byproducts to be regressed at once. A first one that is a `ByproductConfig` keeps what it says of all."""
    shared = entries[0] if entries and isinstance(entries[0], ByproductConfig) else ByproductConfig()
    return shared.with_entries([*entries[:1], *shared.more, *entries[1:]])


def _plain(entry: Byproduct) -> Byproduct:
    return Byproduct(**_fields(entry)) if isinstance(entry, ByproductConfig) else entry


def _fields(entry: Byproduct) -> dict[str, Any]:
    return {field.name: getattr(entry, field.name) for field in dataclasses.fields(Byproduct)}


def named_entries(byproduct: ByproductConfig) -> Iterator[tuple[str, Byproduct]]:
    """Every entry behind the name that its fields have: `config.byproduct`, `config.byproduct.more.box`."""
    if byproduct.target is not Target.NONE:
        yield "config.byproduct", byproduct
    for entry in byproduct.more:
        yield f"config.byproduct.more.{entry.target.value}", entry


def nearest_target(name: str) -> str | None:
    """The target that a misspelt one was probably meant as."""
    return next(iter(difflib.get_close_matches(name, [target.value for target in Target], 1)), None)


def settings_of(byproduct: ByproductConfig, **changes: Any) -> TargetSettings:
    """What its targets need to know beside the image; the statistics of the training split come with `changes`."""
    return TargetSettings(heat_map_side=byproduct.heat_map_side, random_point=byproduct.random_point, **changes)


def head_of(entry: Byproduct, model: ModelConfig) -> Head:
    return entry.head or model.byproduct_head


def is_dense(entry: Byproduct, model: ModelConfig) -> bool:
    return head_of(entry, model) is Head.DENSE


def head_specs(
    byproduct: ByproductConfig, model: ModelConfig, num_classes: int | None, settings: TargetSettings
) -> tuple[HeadSpec, ...]:
    """The heads of an experiment, the first byproduct's first; `num_classes` is given for sets of labels."""
    return tuple(_spec(entry, model, head_shape(entry.target, num_classes, settings)) for entry in byproduct.entries)


def _spec(entry: Byproduct, model: ModelConfig, shape: tuple[int, int] | None) -> HeadSpec:
    assert shape is not None, entry.target
    head = head_of(entry, model)
    dense = head is Head.DENSE
    if dense and kind_of(entry.target) is TargetKind.BOX:
        shape = (shape[0], 2)
    hidden = entry.hidden or (model.byproduct_hidden if model.byproduct_head is head else None)
    pool = entry.pool or (ByproductPool.MAP if dense else model.byproduct_pool)
    return HeadSpec(entry.target.value, shape, head=head, hidden=hidden, pool=pool, block=entry.block)


def check_byproducts(byproduct: ByproductConfig, model: ModelConfig, *, multi_label: bool) -> None:
    """Raises `ConfigError` naming the field, its value and the remedy."""
    if byproduct.more and byproduct.target is Target.NONE:
        raise ConfigError(
            "config.byproduct.target=none is the baseline, but config.byproduct.more has further targets: empty it too"
            " (--config.byproduct.more=), or name the first target"
        )
    seen: set[Target] = set()
    for name, entry in named_entries(byproduct):
        if entry.target is Target.NONE:
            raise ConfigError(f"{name}: an entry without a target regresses nothing; leave it out")
        if entry.target in seen:
            raise ConfigError(
                f"config.byproduct has two entries of the target {entry.target.value}: leave one out, or give one"
                " another target"
            )
        seen.add(entry.target)
        _check_numbers(name, entry)
        _check_schedule(name, entry)
        _check_head(name, entry, model)
        if multi_label and entry.target_sample_weight is not SampleWeight.NONE:
            raise ConfigError(
                f"{name}.target_sample_weight={entry.target_sample_weight.value} is for one label per image; set it to"
                " none for config.task=multi_label"
            )
    if byproduct.target is Target.NONE:
        _check_numbers("config.byproduct", byproduct)
    for name, entry in named_entries(byproduct):
        if not fits(entry.target, 1 if multi_label else None):
            kinds = ", ".join(t.value for t in Target if fits(t, 1 if multi_label else None))
            task = "multi_label" if multi_label else "single_label"
            raise ConfigError(
                f"{name}.target={entry.target.value} does not exist for config.task={task}; choose one of {kinds}"
            )


def _check_numbers(name: str, entry: Byproduct) -> None:
    for field in ("smooth_l1_beta", "heat_sigma", "weight_epochs", "hidden", "block"):
        value = getattr(entry, field)
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(f"{name}.{field}={value} must be a positive number")
    if not 0 <= entry.weight < math.inf:
        raise ConfigError(f"{name}.weight={entry.weight} must be a number of 0 or more")


def _check_schedule(name: str, entry: Byproduct) -> None:
    schedule, epochs = entry.weight_schedule, entry.weight_epochs
    if schedule is not WeightSchedule.CONSTANT and epochs is None:
        raise ConfigError(
            f"{name}.weight_schedule={schedule.value} has no length: set {name}.weight_epochs to the epochs over which"
            f" λ {'rises' if schedule is WeightSchedule.WARMUP else 'falls'}"
        )
    if schedule is WeightSchedule.CONSTANT and epochs is not None:
        raise ConfigError(
            f"{name}.weight_epochs={epochs} belongs to a schedule: set {name}.weight_schedule to warmup or cosine, or"
            " weight_epochs to none"
        )


def _check_head(name: str, entry: Byproduct, model: ModelConfig) -> None:
    kind, head = kind_of(entry.target), head_of(entry, model)
    if head is Head.DENSE and kind in (TargetKind.NUMBER, TargetKind.CLASS):
        raise ConfigError(
            f"{name}.head=dense draws a map, but the target {entry.target.value} has no place; choose linear or mlp"
        )
    try:
        check_head(model, _spec(entry, model, (1, 1)))
    except ValueError as e:
        raise ConfigError(f"{name}.{e}") from e

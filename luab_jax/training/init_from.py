"""`config.init_from`: what a run takes from other weights before its first step, and what it says of it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from etils import epath
from jax.sharding import Mesh

from luab_jax.byproducts.kinds import TargetKind
from luab_jax.byproducts.targets import Target, kind_of
from luab_jax.checkpoints import store as checkpoint_lib
from luab_jax.checkpoints.load import TIMM, LoadedModel, load_stored
from luab_jax.config import Config
from luab_jax.data.class_lists import ClassList
from luab_jax.distributed import sharding
from luab_jax.errors import CheckpointError, ConfigError
from luab_jax.io.console import say
from luab_jax.models.config import HeadSpec, ModelConfig
from luab_jax.models.functional import MORE_HEADS, Model
from luab_jax.models.transfer import fit_backbone, num_heads, shapes
from luab_jax.training.setup import INITIAL_WEIGHTS, Run
from luab_jax.training.step import Parts, TrainState

_OPTION = "config.init_from"
_STATED = ("workdir", "step", "weights_hash", "config_hash", "model", "dataset", "weights")
"""What the identity of a source says that a checkpoint should keep."""


class Pretrained(NamedTuple):
    """Parts of a network that replace freshly drawn ones, numpy float32, and the account of it."""

    given: Parts
    """The backbone always; 'classifier', 'byproduct_head' and 'byproduct_heads' where they fit."""
    record: dict[str, Any]
    """For the description of every checkpoint of the run."""
    told: list[str]
    """The lines for who waits."""


def with_initial_weights(run: Run) -> Run:
    """The run whose `init` begins with `config.init_from`.

    To be called before the workdir is claimed, so that a name that was wrong can be mended. A run that resumes does
    not need the weights any more; what was taken then stands in its checkpoints.
    """
    if not run.config.init_from:
        return run
    saved = _saved_steps(run.workdir)
    if not saved:
        return _begun(run)

    def init(key: jax.Array) -> TrainState:
        """Should none of the checkpoints be whole."""
        return _begun(run).init(key)

    record = _recorded(run.workdir, saved)
    return dataclasses.replace(run, init=init, initial_weights=record)


def _begun(run: Run) -> Run:
    annotators = run.target_settings.statistics.annotators
    taken = read(run.config, run.model, run.train_split.manifest.classes, run.mesh, annotators)
    for line in taken.told:
        say(line, active=run.is_first_process)
    init = functools.partial(run.init, given=taken.given)
    return dataclasses.replace(run, init=init, initial_weights=taken.record)


def _saved_steps(workdir: epath.Path) -> list[int]:
    directory = workdir / "checkpoints"
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit()) if directory.exists() else []


def _recorded(workdir: epath.Path, steps: list[int]) -> dict[str, Any]:
    """The same in all checkpoints of a run; the latest may be damaged."""
    for step in reversed(steps):
        with contextlib.suppress(CheckpointError):
            return checkpoint_lib.describe(workdir, step).get(INITIAL_WEIGHTS, {})
    return {}


def split_source(init_from: str) -> tuple[str, str, str | None]:
    """(checkpoint, which step of it, `raw`, `ema` or None); other colons, as in gs://, belong to the path."""
    path, which, weights = init_from, "latest", None
    if path.startswith(TIMM):
        return path, which, weights
    head, _, tail = path.rpartition(":")
    if head and tail in ("raw", "ema"):
        path, weights = head, tail
    head, _, tail = path.rpartition(":")
    if head and (tail.isdigit() or tail in ("latest", "best")):
        path, which = head, tail
    return path, which, weights


def read(config: Config, model: Model, classes: ClassList, mesh: Mesh, annotators: Sequence[str] = ()) -> Pretrained:
    """What `config.init_from` gives to `model`; the rest stays as drawn.

    The backbone and its batch statistics are taken always, position embeddings interpolated where the number of
    patches differs; the classifier if it is for the same class list; the byproduct head if its outputs mean what they
    meant and it reads the same features. Raises `CheckpointError` for files that cannot be read and `ConfigError` for
    another architecture.
    """
    checkpoint, which, weights = split_source(config.init_from)
    source = load_stored(checkpoint, which, mesh, weights, called=_OPTION)
    fresh: dict[str, str] = {}
    try:
        _check_heads(config.model, source.config)
        backbone = fit_backbone(model, source.params, source.batch_stats)
    except ValueError as e:
        raise ConfigError(
            f"{_OPTION}={config.init_from} is a {source.config.name} of another architecture than config.model"
            f" ({config.model.name}): {e}. Set config.model to that of the weights, or take others"
        ) from e
    params: dict[str, Any] = {"backbone": backbone.params}
    for part, reason in (
        ("classifier", _why_no_classifier(source, classes)),
        ("byproduct_head", _why_no_byproduct_head(source, model, config, annotators)),
        (MORE_HEADS, _why_no_further_heads(source, model, annotators)),
    ):
        if part not in model.abstract()[0]:
            continue
        if reason is None:
            params[part] = jax.device_get(source.params[part])
        else:
            fresh[part] = reason
    origin = {name: source.identity[name] for name in _STATED if name in source.identity}
    sharding.agree({f"what {_OPTION} names": str({k: v for k, v in origin.items() if k != "workdir"})})
    record = {"from": config.init_from, **origin, "taken": list(params), "fresh": fresh}
    if backbone.resampled:
        record["position_embeddings_resampled"] = list(backbone.resampled)
    batch_stats = {"backbone": backbone.batch_stats} if backbone.batch_stats else {}
    told = _told(config, source, params, batch_stats, fresh, backbone.resampled)
    return Pretrained((params, batch_stats), record, told)


def _check_heads(wanted: ModelConfig, found: ModelConfig) -> None:
    a, b = num_heads(wanted), num_heads(found)
    if None not in (a, b) and a != b:
        raise ValueError(f"it has {b} attention heads where {a} are needed")


def _why_no_classifier(source: LoadedModel, classes: ClassList) -> str | None:
    if "classifier" not in source.params:
        return "the weights have none"
    if source.class_list_hash == classes.hash:
        return None
    if source.num_classes != len(classes):
        return f"{len(classes)} classes here, {source.num_classes} there"
    return f"another list of {len(classes)} classes there"


def _why_no_byproduct_head(source: LoadedModel, model: Model, config: Config, annotators: Sequence[str]) -> str | None:
    if "byproduct_head" not in source.params:
        return "the weights have none"
    here, there = config.byproduct.target, source.target
    if there is None or not _mean_the_same(here, there):
        return f"target {here.value} here, {there.value if there else 'unknown'} there"
    if kind_of(here) is TargetKind.CLASS and source.annotators != tuple(annotators):
        return "other annotators there"
    if _reads(source.model.heads[0]) != _reads(model.heads[0]):
        return "another kind of head, or one of other features, there"
    if shapes(source.params["byproduct_head"]) != shapes(model.abstract()[0]["byproduct_head"]):
        return "another shape there"
    return None


def _why_no_further_heads(source: LoadedModel, model: Model, annotators: Sequence[str]) -> str | None:
    """All are taken, or none: those of the same targets that read the same features, in the same shapes."""
    if MORE_HEADS not in source.params:
        return "the weights have none"
    here, there = model.heads[1:], source.model.heads[1:]
    if [spec.name for spec in there] != [spec.name for spec in here]:
        return f"targets {_names(model)} here, {_names(source.model)} there"
    if any(spec.name == Target.ANNOTATOR.value for spec in here) and source.annotators != tuple(annotators):
        return "other annotators there"
    if [_reads(spec) for spec in there] != [_reads(spec) for spec in here]:
        return "another kind of head, or one of other features, there"
    if shapes(source.params[MORE_HEADS]) != shapes(model.abstract()[0][MORE_HEADS]):
        return "another shape there"
    return None


def _mean_the_same(here: Target, there: Target) -> bool:
    """Places in the image do, whosever they are; numbers are each of something else."""
    kind = kind_of(here)
    return kind is kind_of(there) and (kind is not TargetKind.NUMBER or here is there)


def _reads(spec: HeadSpec) -> tuple[object, ...]:
    return spec.head, spec.pool, spec.block


def _names(model: Model) -> str:
    return ", ".join(spec.name for spec in model.heads[1:])


def _told(
    config: Config,
    source: LoadedModel,
    params: dict[str, Any],
    batch_stats: dict[str, Any],
    fresh: dict[str, str],
    resampled: tuple[int, int] | None,
) -> list[str]:
    numbers = {part: sum(leaf.size for leaf in jax.tree.leaves(tree)) for part, tree in params.items()}
    parts = [f"{part.replace('_', ' ')} ({count:,} parameters)" for part, count in numbers.items()]
    if batch_stats:
        parts.append(f"batch statistics ({len(jax.tree.leaves(batch_stats))} arrays)")
    step = f", step {source.identity['step']}" if "config_hash" in source.identity else ""
    lines = [f"begins with {source.name}{step} ({config.init_from})", f"  taken: {', '.join(parts)}"]
    if resampled:
        old, new = resampled
        lines.append(f"  interpolated: position embeddings, {old}x{old} to {new}x{new} patches")
    if fresh:
        left = "; ".join(f"{part.replace('_', ' ')} ({reason})" for part, reason in fresh.items())
        lines.append(f"  drawn afresh: {left}")
    here, there = config.data.preprocessing, source.preprocessing
    if (tuple(here.mean), tuple(here.std)) != (tuple(there.mean), tuple(there.std)):
        lines.append(
            f"  note: these weights saw images normalised by mean {there.mean}, std {there.std}; this run has"
            f" config.data.preprocessing.mean={here.mean} and std={here.std}"
        )
    return lines

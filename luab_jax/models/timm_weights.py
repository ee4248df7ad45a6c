"""Parameters to and from the names and layouts of timm (PyTorch), both ways without loss.

One table per family maps our module paths to timm's; the way back is that table applied to every
name of the model at hand and turned round, so the two directions cannot disagree. The byproduct
head is no part of timm weights.

torchvision's ResNets share timm's names. `num_batches_tracked`, a counter that BatchNorm needs only
without momentum, is skipped when read and not written: `load_state_dict(strict=True)` accepts a
plain dict without it.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from etils import epath

from luab_jax.models import transfer
from luab_jax.models.functional import BatchStats, Model, Params, param_name

Weights = dict[str, np.ndarray]

# (our module path, timm's module path); \1 … are the groups of the left side.
_RESNET = (
    (r"backbone/stem/conv", r"conv1"),
    (r"backbone/stem/norm", r"bn1"),
    (r"backbone/stage(\d+)/(\d+)/conv(\d)", r"layer\1.\2.conv\3"),
    (r"backbone/stage(\d+)/(\d+)/norm(\d)", r"layer\1.\2.bn\3"),
    (r"backbone/stage(\d+)/(\d+)/shortcut/conv", r"layer\1.\2.downsample.0"),
    (r"backbone/stage(\d+)/(\d+)/shortcut/norm", r"layer\1.\2.downsample.1"),
    (r"classifier", r"fc"),
)
_VIT = (
    (r"backbone/patch_embed", r"patch_embed.proj"),
    (r"backbone/blocks/(\d+)/(norm\d)", r"blocks.\1.\2"),
    (r"backbone/blocks/(\d+)/attention/qkv", r"blocks.\1.attn.qkv"),
    (r"backbone/blocks/(\d+)/attention/out", r"blocks.\1.attn.proj"),
    (r"backbone/blocks/(\d+)/mlp/(fc\d)", r"blocks.\1.mlp.\2"),
    (r"backbone/norm", r"norm"),
    (r"classifier", r"head"),
)
# With the mean of the patch tokens timm calls the last norm by another name (`global_pool='avg'`).
_VIT_MEAN = ((r"backbone/norm", r"fc_norm"), *_VIT)

# Last word of the name: ours, timm's, and by number of axes how they are permuted on the way out
# (convolution HWIO -> OIHW, linear IO -> OI); no entry means as they are.
_LEAVES: dict[str, tuple[str, dict[int, tuple[int, ...]]]] = {
    "kernel": ("weight", {4: (3, 2, 0, 1), 2: (1, 0)}),
    "scale": ("weight", {}),
    "bias": ("bias", {}),
    "mean": ("running_mean", {}),
    "var": ("running_var", {}),
}
# Parameters that belong to no layer of their own.
_WHOLE = {"backbone/class_token": "cls_token", "backbone/position_embed": "pos_embed"}

_IGNORED = "num_batches_tracked"


def to_timm(model: Model, params: Params, batch_stats: BatchStats) -> Weights:
    """Our arrays under timm's names and in timm's layout, float32."""
    weights = {}
    for name, leaf in _named_leaves(params, batch_stats):
        timm_name, axes = _translate(model, name, leaf.ndim)
        array = np.asarray(leaf)
        weights[timm_name] = _copy(array.transpose(axes) if axes else array)
    return weights


def from_timm(model: Model, weights: Mapping[str, np.ndarray], *, classifier: bool = True) -> tuple[Params, BatchStats]:
    """timm's arrays as (params, batch_stats) of `model`, numpy float32, without byproduct head.

    classifier: False reads weights that have none.

    Every name that is missing or unexpected and every shape that differs is told in one ValueError.
    """
    params, batch_stats = model.abstract()
    params.pop("byproduct_head", None)
    if not classifier:
        params.pop("classifier")
    targets = {}
    for name, leaf in _named_leaves(params, batch_stats):
        timm_name, axes = _translate(model, name, leaf.ndim)
        shape = tuple(leaf.shape[a] for a in axes) if axes else leaf.shape
        targets[timm_name] = (name, axes, shape)
    weights = {name: array for name, array in weights.items() if not name.endswith(_IGNORED)}
    _check(model, weights, {timm_name: shape for timm_name, (_, _, shape) in targets.items()})

    values = {}
    for timm_name, (name, axes, _) in targets.items():
        array = weights[timm_name]
        values[name] = _copy(array.transpose(np.argsort(axes)) if axes else array)

    def fill(path, leaf):
        del leaf
        return values[param_name(path)]

    return (
        jax.tree_util.tree_map_with_path(fill, params),
        jax.tree_util.tree_map_with_path(fill, batch_stats),
    )


def save_timm(path: epath.PathLike, model: Model, params: Params, batch_stats: BatchStats) -> None:
    """Writes a `.safetensors` file that timm reads; local or gs:// path. A file is there whole or not at all."""
    target = epath.Path(path)
    part = target.with_name(target.name + ".tmp")
    # Loaders of torch files look for this entry.
    part.write_bytes(safetensors.numpy.save(to_timm(model, params, batch_stats), metadata={"format": "pt"}))
    part.replace(target)


def load_timm(path: epath.PathLike, model: Model) -> tuple[Params, BatchStats]:
    """Reads a `.safetensors` file with timm's names; errors name the file."""
    weights = read_weights(path)
    try:
        return from_timm(model, weights)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def num_classes(weights: Mapping[str, np.ndarray]) -> int | None:
    """How many classes timm's classifier has; None if there is none by a name that we know."""
    head = next((weights[name] for name in ("fc.weight", "head.weight") if name in weights), None)
    return None if head is None else len(head)


def pools_mean(weights: Mapping[str, np.ndarray]) -> bool:
    """Whether timm's ViT averages its patch tokens (`global_pool='avg'`)."""
    return "fc_norm.weight" in weights


def patches_per_side(weights: Mapping[str, np.ndarray]) -> int | None:
    """Of a ViT's grid; None for other networks. Raises ValueError if the grid is not a square."""
    positions = weights.get("pos_embed")
    return None if positions is None or positions.ndim != 3 else transfer.patches_per_side(positions.shape[1])


def read_weights(path: epath.PathLike) -> Weights:
    """The arrays of a `.safetensors` file; raises OSError, or ValueError if it is none."""
    try:
        return safetensors.numpy.load(epath.Path(path).read_bytes())
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error


def timm_name(model: Model, name: str) -> str:
    """timm's name of a parameter or statistic: 'backbone/stem/conv/kernel' -> 'conv1.weight'."""
    return _translate(model, name, 0)[0]


def _translate(model: Model, name: str, ndim: int) -> tuple[str, tuple[int, ...] | None]:
    """(timm's name, permutation of the axes from ours to timm's or None)."""
    if name in _WHOLE:
        return _WHOLE[name], None
    module, _, leaf = name.rpartition("/")
    table = _RESNET if model.family == "resnet" else _VIT_MEAN if model.pools_mean else _VIT
    for pattern, template in table:
        match = re.fullmatch(pattern, module)
        if match:
            timm_leaf, permutations = _LEAVES[leaf]
            return f"{match.expand(template)}.{timm_leaf}", permutations.get(ndim)
    raise AssertionError(f"{name} is in no table; add its row beside the layer.")


def _copy(array: np.ndarray) -> np.ndarray:
    """A copy of its own: torch updates buffers in place, which a view would hand on to ours."""
    return np.array(array, np.float32, order="C")


def _named_leaves(params: Params, batch_stats: BatchStats) -> list[tuple[str, Any]]:
    """Names and arrays, of any library, or their shapes."""
    params = {part: tree for part, tree in params.items() if part != "byproduct_head"}
    pairs = [pair for tree in (params, batch_stats) for pair in jax.tree_util.tree_flatten_with_path(tree)[0]]
    return [(param_name(path), leaf) for path, leaf in pairs]


def _check(model: Model, weights: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    problems: list[str] = []

    def report(what: str, names: list[str], describe: Callable[[str], str] = str) -> None:
        if names:
            listed = ", ".join(describe(name) for name in names[:8])
            more = f" and {len(names) - 8} more" if len(names) > 8 else ""
            problems.append(f"{len(names)} {what}: {listed}{more}")

    report("missing", [n for n in shapes if n not in weights])
    report("unexpected", [n for n in weights if n not in shapes])
    report(
        "of another shape",
        [n for n in shapes if n in weights and weights[n].shape != shapes[n]],
        lambda n: f"{n} {weights[n].shape} where the model has {shapes[n]}",
    )
    if problems:
        raise ValueError(
            f"timm weights do not fit this {model.family} of {model.num_classes} classes at"
            f" {model.image_size} px; choose the model, num_classes and image_size that they were"
            f" made for. {'; '.join(problems)}"
        )

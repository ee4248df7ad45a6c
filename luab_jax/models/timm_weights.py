"""Parameters to and from the names and layouts of timm (PyTorch), both ways without loss.

A table of each family maps our module paths to timm's; the way back is that table applied to every
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
import ml_dtypes
import numpy as np
import safetensors.numpy
from etils import epath

from luab_jax.io.atomic import write_bytes
from luab_jax.io.pickled import is_pickled
from luab_jax.models import transfer
from luab_jax.models.families import FAMILIES
from luab_jax.models.functional import BatchStats, Model, Params, param_name

Weights = dict[str, np.ndarray]

# Last word of the name: ours, timm's, and by number of axes how they are permuted on the way out
# (convolution HWIO -> OIHW, linear IO -> OI); no entry means as they are.
_LEAVES: dict[str, tuple[str, dict[int, tuple[int, ...]]]] = {
    "kernel": ("weight", {4: (3, 2, 0, 1), 2: (1, 0)}),
    "scale": ("weight", {}),
    "bias": ("bias", {}),
    "mean": ("running_mean", {}),
    "var": ("running_var", {}),
    "gamma": ("gamma", {}),
}

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
    params.pop("byproduct_heads", None)
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
    """Writes a `.safetensors` file that timm reads; local or gs:// path. Raises `WriteError`."""
    # Loaders of torch files look for this entry.
    write_bytes(path, safetensors.numpy.save(to_timm(model, params, batch_stats), metadata={"format": "pt"}))


def load_timm(path: epath.PathLike, model: Model) -> tuple[Params, BatchStats]:
    """Reads a `.safetensors` file with timm's names; errors name the file."""
    weights = read_weights(path)
    try:
        return from_timm(model, weights)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def num_classes(weights: Mapping[str, np.ndarray]) -> int | None:
    """How many classes timm's classifier has; None if there is none by a name that we know."""
    tables = [table for family in FAMILIES.values() for table in family.timm_layers]
    names = [f"{theirs}.weight" for ours, theirs in tables if ours == "classifier"]
    head = next((weights[name] for name in names if name in weights), None)
    return None if head is None else len(head)


def pools_mean(weights: Mapping[str, np.ndarray]) -> bool:
    """Whether timm's ViT averages its patch tokens (`global_pool='avg'`)."""
    pooled = [f"{theirs}.weight" for family in FAMILIES.values() for _, theirs in family.timm_pooled_layers]
    return any(name in weights for name in pooled)


def patches_per_side(weights: Mapping[str, np.ndarray]) -> int | None:
    """Of a ViT's grid; None for other networks. Raises ValueError if the grid is not a square."""
    positions = weights.get("pos_embed")
    return None if positions is None or positions.ndim != 3 else transfer.patches_per_side(positions.shape[1])


def read_weights(path: epath.PathLike) -> Weights:
    """The floating-point arrays of a `.safetensors` file as float32; raises OSError, or ValueError if it is none.

    safetensors' own reader for numpy fails on types that numpy does not know, bfloat16 among them. Half precision and
    bfloat16 become float32 exactly. Integers are kept as they are: BatchNorm's counters, which nothing reads.
    """
    content = epath.Path(path).read_bytes()
    if is_pickled(content):
        raise ValueError(
            f"{path} is a file of torch.save: reading it unpickles, which can run any code, and is not done here."
            " Convert it where you trust it: safetensors.torch.save_file(torch.load(PATH, weights_only=True), OUT)"
        )
    try:
        entries = safetensors.deserialize(content)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    unknown = sorted({entry["dtype"] for _, entry in entries} - _FLOATS.keys() - _INTEGERS.keys())
    if unknown:
        name = next(name for name, entry in entries if entry["dtype"] == unknown[0])
        raise ValueError(
            f"{path}: {name} has the type {unknown[0]}; types that are read are {', '.join(_FLOATS)}."
            " Convert quantised weights to one of these first"
        )
    return {name: _array(entry) for name, entry in entries}


_FLOATS = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "F64": np.float64}
_INTEGERS = {"I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8, "U8": np.uint8, "BOOL": np.bool_}
"""safetensors' names of types, and numpy's or ml_dtypes' types."""


def _array(entry: Mapping[str, Any]) -> np.ndarray:
    is_float = entry["dtype"] in _FLOATS
    dtype = (_FLOATS if is_float else _INTEGERS)[entry["dtype"]]
    array = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
    return array.astype(np.float32) if is_float else array


WRAPPERS = {
    "module.": "torch's DataParallel",
    "_orig_mod.": "torch.compile",
    "model.": "a training framework's module",
}
"""Prefixes of names, and what saves them."""


def without_wrappers(weights: Mapping[str, np.ndarray]) -> tuple[Weights, str]:
    """The weights under the network's own names, and the prefix that all of them had; empty if there was none."""
    names, prefix = list(weights), ""
    while found := next((p for p in WRAPPERS if names and all(name.startswith(p) for name in names)), None):
        names, prefix = [name.removeprefix(found) for name in names], prefix + found
    return dict(zip(names, weights.values(), strict=True)), prefix


def timm_shapes(model: Model) -> dict[str, tuple[int, ...]]:
    """timm's name to the shape in timm's layout, of every array of a model but its byproduct heads."""
    shapes = {}
    for name, leaf in _named_leaves(*model.abstract()):
        timm_name, axes = _translate(model, name, leaf.ndim)
        shapes[timm_name] = tuple(leaf.shape[a] for a in axes) if axes else leaf.shape
    return shapes


def timm_name(model: Model, name: str) -> str:
    """timm's name of a parameter or statistic: 'backbone/stem/conv/kernel' -> 'conv1.weight'."""
    return _translate(model, name, 0)[0]


def _translate(model: Model, name: str, ndim: int) -> tuple[str, tuple[int, ...] | None]:
    """(timm's name, permutation of the axes from ours to timm's or None)."""
    family = FAMILIES[model.family]
    if name in family.timm_arrays:
        return family.timm_arrays[name], None
    module, _, leaf = name.rpartition("/")
    table = (*family.timm_pooled_layers, *family.timm_layers) if model.pools_mean else family.timm_layers
    for pattern, template in table:
        match = re.fullmatch(pattern, module)
        if match:
            timm_leaf, permutations = _LEAVES[leaf]
            return f"{match.expand(template)}.{timm_leaf}", permutations.get(ndim)
    raise AssertionError(f"{name} is in no table; add its row to the family's `timm_layers`.")


def _copy(array: np.ndarray) -> np.ndarray:
    """A copy of its own: torch updates buffers in place, which a view would hand on to ours."""
    return np.array(array, np.float32, order="C")


def _named_leaves(params: Params, batch_stats: BatchStats) -> list[tuple[str, Any]]:
    """Names and arrays, of any library, or their shapes."""
    params = {part: tree for part, tree in params.items() if not part.startswith("byproduct_head")}
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
        if prefix := _prefix_of(list(weights), list(shapes)):
            problems.insert(0, f"names begin with {prefix!r}, without which they would be those of this network")
        raise ValueError(
            f"timm weights do not fit this {model.family} of {model.num_classes} classes at"
            f" {model.image_size} px; choose the model, num_classes and image_size that they were"
            f" made for. {'; '.join(problems)}"
        )


def _prefix_of(names: list[str], wanted: list[str]) -> str:
    """What most of the wanted names would have to begin with to be found; empty if nothing would do."""
    there = set(names)
    for last in wanted[:3]:
        for prefix in (name.removesuffix(last) for name in names if name.endswith(f".{last}")):
            if 2 * sum(prefix + name in there for name in wanted) > len(wanted):
                return prefix
    return ""

"""The wall: outside of this package a model is plain dicts of arrays and pure functions of them.

    model = create_model(config, num_classes=1000, image_size=224, byproduct_shape=(1, 2))
    params, batch_stats = jax.jit(model.init)(jax.random.key(0))
    outputs, batch_stats = model.apply(params, batch_stats, images, train=True, key=key)

`params` is {'backbone': …, 'classifier': …, 'byproduct_head': …}, and where there are several byproducts
'byproduct_heads': {'box': …} for those after the first; `batch_stats` is {'backbone': …} (empty for a ViT). The key
strings are in checkpoints for ever. Lists of layers have the keys '0', '1', …, since int keys do not survive storage.
"""

import functools
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from luab_jax.models.attention import check_attention
from luab_jax.models.choices import ByproductPool, Head
from luab_jax.models.config import HeadSpec, ModelConfig, check_head, family_of, filled_preset
from luab_jax.models.heads import ByproductHead, DenseHead, classifier
from luab_jax.models.layers import Tap

Params = dict[str, Any]
BatchStats = dict[str, Any]

MORE_HEADS = "byproduct_heads"
"""Among the parameters, the byproduct heads after the first, by their targets' names."""


class Outputs(NamedTuple):
    """All in float32.

    logits: one score per class, before softmax or sigmoid.
    byproduct: predicted byproducts, K per image with D numbers each; None where h did not run.
    features: what the classifier reads, and the byproduct head unless `byproduct_pool` says otherwise.
    more: of the heads after the first, in their order. Of a dense head D counts the cells of a map, before the softmax.
    """

    logits: Float[Array, "b c"]
    byproduct: Float[Array, "b k d"] | None
    features: Float[Array, "b f"]
    more: tuple[Float[Array, "b k d"], ...] = ()

    @property
    def byproducts(self) -> tuple[Float[Array, "b k d"], ...]:
        """Of all heads."""
        return () if self.byproduct is None else (self.byproduct, *self.more)


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Model:
    """The static half of a network, made by `create_model`; hashed by identity."""

    family: str  # a key of `families.FAMILIES`
    num_classes: int
    image_size: int  # pixels
    heads: tuple[HeadSpec, ...]  # the byproduct heads, the first of which is 'byproduct_head'
    pools_mean: bool  # a ViT that averages its patch tokens
    _random: bool  # training draws random numbers: dropout or drop path is on
    _parts: dict[str, "_Part"]
    _taps: dict[str, Tap]  # of the heads that read other features than the backbone hands to the first

    @property
    def byproduct_shape(self) -> tuple[int, int] | None:
        """(K, D) of the first head, None without one."""
        return self.heads[0].shape if self.heads else None

    def init(self, key: jax.Array) -> tuple[Params, BatchStats]:
        """Fresh float32 parameters and batch statistics; safe under `jit` and `eval_shape`.

        Each part has its own key: the same key gives the same backbone and classifier with and
        without a byproduct head.
        """
        keys = jax.random.split(key, 3)
        names = ("backbone", "classifier", "byproduct_head")
        params, batch_stats = {}, {}
        for part_key, name in zip(keys, names, strict=True):
            if name in self._parts:
                params[name], stats = self._parts[name].init(part_key)
                if stats:
                    batch_stats[name] = stats
        for spec in self.heads[1:]:
            # By the name of its target, so that a head begins the same whichever others there are.
            own_key = jax.random.fold_in(keys[2], zlib.crc32(spec.name.encode()))
            drawn, _ = self._parts[f"{MORE_HEADS}/{spec.name}"].init(own_key)
            params.setdefault(MORE_HEADS, {})[spec.name] = drawn
        return params, batch_stats

    def abstract(self) -> tuple[Params, BatchStats]:
        """Shapes and types of `init`'s result, without computing anything."""
        shapes = {name: part.shapes for name, part in self._parts.items() if not name.startswith(f"{MORE_HEADS}/")}
        params: Params = {name: params for name, (params, _) in shapes.items()}
        batch_stats = {name: stats for name, (_, stats) in shapes.items() if stats}
        if self.heads[1:]:
            further = {spec.name: self._parts[f"{MORE_HEADS}/{spec.name}"].shapes[0] for spec in self.heads[1:]}
            params[MORE_HEADS] = further
        return params, batch_stats

    def apply(
        self,
        params: Params,
        batch_stats: BatchStats,
        images: Float[Array, "b h w 3"],
        *,
        train: bool,
        key: jax.Array | None = None,
        head: bool = True,
    ) -> tuple[Outputs, BatchStats]:
        """Normalised images to outputs, and the batch statistics after this batch.

        train: normalise with the batch's own statistics and update the running ones; drop.
        key: for dropout and drop path; needed only where the config has them and `train` is set.
        head: False skips h, whether or not `params` contain it.
        """
        if train and self._random and key is None:
            raise ValueError("key=None, but the model has dropout or drop_path: pass a key.")
        if head and self.byproduct_shape is not None and "byproduct_head" not in params:
            raise ValueError(
                "params have no 'byproduct_head', but head=True: pass head=False, or add the head of a fresh `init`."
            )
        backbone = self.bind("backbone", params, batch_stats)
        rngs = nnx.Rngs(dropout=key) if train and key is not None else None
        specs = self.heads if head else ()
        taps = {spec.name: self._taps[spec.name] for spec in specs if spec.name in self._taps}
        features, byproduct_features, tapped = backbone(images, train=train, rngs=rngs, taps=tuple(taps.values()))
        logits = self.bind("classifier", params)(features)
        read = dict(zip(taps, tapped, strict=True))
        byproducts = [self._bind_head(spec, params)(read.get(spec.name, byproduct_features)) for spec in specs]
        stats = _pure(nnx.state(backbone, nnx.BatchStat))
        outputs = Outputs(logits, byproducts[0] if byproducts else None, features, tuple(byproducts[1:]))
        return outputs, {"backbone": stats} if stats else {}

    def _bind_head(self, spec: HeadSpec, params: Params) -> Any:
        if spec is self.heads[0]:
            return self.bind("byproduct_head", params)
        return self._parts[f"{MORE_HEADS}/{spec.name}"].bind(params[MORE_HEADS][spec.name], {})

    def bind(self, name: str, params: Params, batch_stats: BatchStats | None = None) -> Any:
        """One part ('backbone', 'classifier' or 'byproduct_head') as a callable module."""
        return self._parts[name].bind(params[name], (batch_stats or {}).get(name, {}))


@dataclass(frozen=True, slots=True)
class _Part:
    """A module taken apart: what builds it, what is static, and the shapes of its arrays."""

    build: Callable[[nnx.Rngs], nnx.Module]
    graph: nnx.GraphDef
    shapes: tuple[dict, dict]  # of params and batch_stats

    def init(self, key: jax.Array) -> tuple[dict, dict]:
        module = self.build(nnx.Rngs(params=key))
        _, params, stats = nnx.split(module, nnx.Param, nnx.BatchStat)
        return _pure(params), _pure(stats)

    def bind(self, params: dict, stats: dict) -> nnx.Module:
        return nnx.merge(self.graph, nnx.restore_int_paths(params), nnx.restore_int_paths(stats))


def _part(build: Callable[[nnx.Rngs], nnx.Module]) -> _Part:
    module = nnx.eval_shape(lambda: build(nnx.Rngs(0)))
    graph, params, stats = nnx.split(module, nnx.Param, nnx.BatchStat)
    return _Part(build, graph, (_pure(params), _pure(stats)))


def _pure(state) -> dict[str, Any]:
    """An NNX state as nested dicts with string keys."""

    def stringify(node):
        if isinstance(node, dict):
            return {str(key): stringify(child) for key, child in node.items()}
        return node

    return stringify(nnx.to_pure_dict(state))


def create_model(
    config: ModelConfig,
    *,
    num_classes: int,
    image_size: int,
    byproduct_shape: tuple[int, int] | None = None,
    heads: tuple[HeadSpec, ...] | None = None,
    num_replicas: int = 1,
) -> Model:
    """The network that the config describes.

    image_size: side of the (square) images in pixels; fixes a ViT's number of tokens.
    byproduct_shape: (K, D) of the byproduct target; None means no byproduct head at all.
    heads: Instead, what the byproduct heads are, where the config's own fields do not say it.
    num_replicas: runs of rows, one after the other, over which BatchNorm takes its statistics apart.
    """
    config.validate()
    check_attention(config.attention)
    if heads is None:
        heads = () if byproduct_shape is None else (_head_of_config(config, byproduct_shape),)
    _check_sizes(config, num_classes, image_size, heads)
    dtype = jnp.dtype(config.compute_dtype.value)
    family, num_features = family_of(config), filled_preset(config).num_features
    build = family.network.build(
        config, image_size=image_size, handed=_handed(heads), num_replicas=num_replicas, dtype=dtype
    )
    stddev = family.network.HEAD_STDDEV
    parts = {
        "backbone": _part(build),
        "classifier": _part(
            lambda rngs: classifier(
                num_features, num_classes, stddev=stddev, dtype=dtype, rngs=rngs, init=config.classifier_init
            )
        ),
    }
    taps = _taps(heads)
    shapes = _tapped_shapes(build, tuple(taps.values()), image_size) if taps else []
    of_taps = dict(zip(taps, shapes, strict=True))
    for number, spec in enumerate(heads):
        shape = of_taps.get(spec.name, (num_features,))
        _check_map(config, spec, shape, image_size)
        name = f"{MORE_HEADS}/{spec.name}" if number else "byproduct_head"
        parts[name] = _part(functools.partial(_head, spec, shape, stddev=stddev, dtype=dtype))
    return Model(
        family=family.name,
        num_classes=num_classes,
        image_size=image_size,
        heads=heads,
        pools_mean=family.pools_mean(config),
        _random=config.dropout > 0 or config.drop_path > 0,
        _parts=parts,
        _taps=taps,
    )


def _head_of_config(config: ModelConfig, shape: tuple[int, int]) -> HeadSpec:
    pool = ByproductPool.MAP if config.byproduct_head is Head.DENSE else config.byproduct_pool
    return HeadSpec("", shape, head=config.byproduct_head, hidden=config.byproduct_hidden, pool=pool)


def _taps(heads: tuple[HeadSpec, ...]) -> dict[str, Tap]:
    """By the heads' names; none where the features are those that the backbone hands to the first head."""
    handed = _handed(heads)
    read = {spec.name: Tap(spec.pool, spec.block) for spec in heads}
    return {name: tap for name, tap in read.items() if tap != Tap(handed, None)}


def _handed(heads: tuple[HeadSpec, ...]) -> ByproductPool:
    """Which features the backbone hands out for byproducts beside the classifier's: the first head's, where pooled."""
    if heads and heads[0].block is None and heads[0].pool is not ByproductPool.MAP:
        return heads[0].pool
    return ByproductPool.CLASSIFIER


def _tapped_shapes(build: Callable[[nnx.Rngs], Any], taps: tuple[Tap, ...], side: int) -> list[tuple[int, ...]]:
    """Of one image's features, for each tap."""

    def tapped() -> list[Array]:
        return build(nnx.Rngs(0))(jnp.zeros((1, side, side, 3)), train=False, taps=taps)[2]

    return [found.shape[1:] for found in jax.eval_shape(tapped)]


def _head(spec: HeadSpec, features: tuple[int, ...], rngs: nnx.Rngs, *, stddev: float, dtype: jnp.dtype) -> nnx.Module:
    """A head for one image's features of this shape."""
    if spec.dense:
        return DenseHead(features[-1], spec.shape[0], hidden=spec.hidden, stddev=stddev, dtype=dtype, rngs=rngs)
    count = math.prod(features)
    hidden = (spec.hidden or features[-1]) if spec.head is Head.MLP else None
    return ByproductHead(count, spec.shape, hidden=hidden, stddev=stddev, dtype=dtype, rngs=rngs)


def _check_map(config: ModelConfig, spec: HeadSpec, features: tuple[int, ...], image_size: int) -> None:
    if spec.dense and min(features[:-1]) < 2:
        block = "" if spec.block is None else f" after block {spec.block}"
        raise ValueError(
            f"the dense head of {spec.name or 'the byproduct'} has no map to draw on: the features of {config.name}"
            f"{block} are {features[0]}x{features[1]} for images of {image_size} px; take larger images, an earlier"
            " block, or another head."
        )


def _check_sizes(config: ModelConfig, num_classes: int, image_size: int, heads: tuple[HeadSpec, ...]) -> None:
    if num_classes < 1:
        raise ValueError(f"num_classes={num_classes} is not positive; choose 1 or more.")
    for spec in heads:
        if len(spec.shape) != 2 or min(spec.shape) < 1:
            raise ValueError(f"byproduct_shape={spec.shape} is not (K, D) with both at least 1; None means no head.")
        check_head(config, spec)
    if image_size < 1:
        raise ValueError(f"image_size={image_size} is not positive; choose 1 pixel or more.")
    family_of(config).check_image_size(config, image_size)


def num_parameters(params: Params) -> int:
    """How many numbers the parameters hold; works on arrays and on their shapes alike."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def param_name(path: tuple) -> str:
    """A key path of `jax.tree_util` as one string: 'backbone/stage1/0/conv1/kernel'."""
    return jax.tree_util.keystr(path, simple=True, separator="/")

"""The wall: outside of this package a model is plain dicts of arrays and pure functions of them.

    model = create_model(config, num_classes=1000, image_size=224, byproduct_shape=(1, 2))
    params, batch_stats = jax.jit(model.init)(jax.random.key(0))
    outputs, batch_stats = model.apply(params, batch_stats, images, train=True, key=key)

`params` is {'backbone': …, 'classifier': …, 'byproduct_head': …}, `batch_stats` {'backbone': …}
(empty for a ViT); the key strings are in checkpoints for ever. Lists of layers have the keys '0',
'1', …, since int keys do not survive storage.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from luab_jax.models.attention import check_attention
from luab_jax.models.config import (
    PRESETS,
    BatchNorm,
    ByproductPool,
    Head,
    ModelConfig,
    Pool,
    ResNetPreset,
    resnet_preset,
    vit_preset,
)
from luab_jax.models.heads import ByproductHead, classifier
from luab_jax.models.resnet import ResNet
from luab_jax.models.vit import ViT

Params = dict[str, Any]
BatchStats = dict[str, Any]

# Standard deviation of the heads' initial weights: Goyal et al. 2017 (section 5.1); DeiT, timm.
_HEAD_STDDEV_RESNET = 0.01
_HEAD_STDDEV_VIT = 0.02


class Outputs(NamedTuple):
    """All in float32.

    logits: one score per class, before softmax or sigmoid.
    byproduct: predicted byproducts, K per image with D numbers each; None where h did not run.
    features: what the classifier reads, and the byproduct head unless `byproduct_pool` says otherwise.
    """

    logits: Float[Array, "b c"]
    byproduct: Float[Array, "b k d"] | None
    features: Float[Array, "b f"]


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Model:
    """The static half of a network, made by `create_model`; hashed by identity."""

    family: str  # 'resnet' or 'vit'
    num_classes: int
    image_size: int  # pixels
    byproduct_shape: tuple[int, int] | None  # (K, D)
    pools_mean: bool  # a ViT that averages its patch tokens
    _random: bool  # training draws random numbers: dropout or drop path is on
    _parts: dict[str, "_Part"]

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
        return params, batch_stats

    def abstract(self) -> tuple[Params, BatchStats]:
        """Shapes and types of `init`'s result, without computing anything."""
        shapes = {name: part.shapes for name, part in self._parts.items()}
        params = {name: params for name, (params, _) in shapes.items()}
        batch_stats = {name: stats for name, (_, stats) in shapes.items() if stats}
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
        features, byproduct_features = backbone(images, train=train, rngs=rngs)
        logits = self.bind("classifier", params)(features)
        byproduct = None
        if head and self.byproduct_shape is not None:
            byproduct = self.bind("byproduct_head", params)(byproduct_features)
        stats = _pure(nnx.state(backbone, nnx.BatchStat))
        return Outputs(logits, byproduct, features), {"backbone": stats} if stats else {}

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
    byproduct_shape: tuple[int, int] | None,
    num_replicas: int = 1,
) -> Model:
    """The network that the config describes.

    image_size: side of the (square) images in pixels; fixes a ViT's number of tokens.
    byproduct_shape: (K, D) of the byproduct target; None means no byproduct head at all.
    num_replicas: devices that the batch is spread over, for BatchNorm per replica.
    """
    config.validate()
    check_attention(config.attention)
    _check_sizes(config, num_classes, image_size, byproduct_shape)
    dtype = jnp.dtype(config.compute_dtype.value)
    build, num_features, is_vit = _backbone(config, image_size, num_replicas, dtype)
    stddev = _HEAD_STDDEV_VIT if is_vit else _HEAD_STDDEV_RESNET
    parts = {
        "backbone": _part(build),
        "classifier": _part(lambda rngs: classifier(num_features, num_classes, stddev=stddev, dtype=dtype, rngs=rngs)),
    }
    if byproduct_shape is not None:
        hidden = (config.byproduct_hidden or num_features) if config.byproduct_head is Head.MLP else None
        parts["byproduct_head"] = _part(
            lambda rngs: ByproductHead(
                num_features, byproduct_shape, hidden=hidden, stddev=stddev, dtype=dtype, rngs=rngs
            )
        )
    return Model(
        family="vit" if is_vit else "resnet",
        num_classes=num_classes,
        image_size=image_size,
        byproduct_shape=byproduct_shape,
        pools_mean=is_vit and config.pool.value == "mean",
        _random=config.dropout > 0 or config.drop_path > 0,
        _parts=parts,
    )


def _backbone(config: ModelConfig, image_size: int, num_replicas: int, dtype: jnp.dtype):
    """(function that builds the backbone from rngs, number of features, whether it is a ViT)."""
    shared = {"dropout": config.dropout, "drop_path": config.drop_path, "remat": config.remat, "dtype": dtype}
    if isinstance(PRESETS[config.name], ResNetPreset):
        preset, stem = resnet_preset(config), config.stem
        expansion = 4 if preset.bottleneck else 1
        num_features = expansion * preset.width * 2 ** (len(preset.stage_sizes) - 1)
        normalising = {
            "zero_init_residual": config.zero_init_residual,
            "num_replicas": num_replicas if config.batch_norm is BatchNorm.PER_REPLICA else 1,
        }
        return lambda rngs: ResNet(preset, stem, rngs=rngs, **normalising, **shared), num_features, False
    preset = vit_preset(config)
    own = config.byproduct_pool is not ByproductPool.CLASSIFIER
    pools = {"pool": config.pool, "byproduct_pool": Pool(config.byproduct_pool.value) if own else config.pool}
    shared |= {"image_size": image_size, "patch_size": config.patch_size, "attention": config.attention}
    return lambda rngs: ViT(preset, rngs=rngs, **pools, **shared), preset.embed_dim, True


def _check_sizes(config, num_classes, image_size, byproduct_shape) -> None:
    if num_classes < 1:
        raise ValueError(f"num_classes={num_classes} is not positive; choose 1 or more.")
    if byproduct_shape is not None and (len(byproduct_shape) != 2 or min(byproduct_shape) < 1):
        raise ValueError(f"byproduct_shape={byproduct_shape} is not (K, D) with both at least 1; None means no head.")
    if image_size < 1:
        raise ValueError(f"image_size={image_size} is not positive; choose 1 pixel or more.")
    if not isinstance(PRESETS[config.name], ResNetPreset) and image_size % config.patch_size:
        below = max(1, image_size // config.patch_size) * config.patch_size
        raise ValueError(
            f"image_size={image_size} is no multiple of model.patch_size={config.patch_size};"
            f" choose {below} or {below + config.patch_size} pixels, or another patch_size."
        )


def num_parameters(params: Params) -> int:
    """How many numbers the parameters hold; works on arrays and on their shapes alike."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def param_name(path: tuple) -> str:
    """A key path of `jax.tree_util` as one string: 'backbone/stage1/0/conv1/kernel'."""
    return jax.tree_util.keystr(path, simple=True, separator="/")

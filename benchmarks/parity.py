"""Our networks beside timm's, by the same weights and images: `python -m benchmarks.parity [MODEL ...]`.

Needs torch (a CPU build is enough) and timm. `tests/models/test_timm_parity.py` asserts what this prints.

Weights are random: trained ones are not needed to see a wrong padding, epsilon, momentum, order or GELU. Scales, shifts
and running statistics of the norms are drawn as well, since at their initial 0 and 1 half of the layers would be
invisible.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import gc
import re
import sys
import tempfile
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float

from luab_jax.models import timm_weights
from luab_jax.models.config import Dtype, ModelConfig, Pool, family_of, filled_preset
from luab_jax.models.families import FAMILIES
from luab_jax.models.families.convnext import network as convnext
from luab_jax.models.families.resnet import network as resnet
from luab_jax.models.families.vit import network as vit
from luab_jax.models.functional import BatchStats, Model, Params, create_model, num_parameters

try:
    import safetensors.torch
    import timm  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]
except ImportError as e:
    sys.exit(f"error: torch (a CPU build is enough) and timm are needed beside the project's packages: {e}")

TIMM_NAMES = {
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "resnet101": "resnet101",
    "resnet152": "resnet152",
    "vit_ti": "vit_tiny_patch16_224",
    "vit_s": "vit_small_patch16_224",
    "vit_b": "vit_base_patch16_224",
    "convnext_t": "convnext_tiny",
    "convnext_s": "convnext_small",
    "convnext_b": "convnext_base",
    "deit3_s": "deit3_small_patch16_224",
    "deit3_b": "deit3_base_patch16_224",
    "dinov2_s": "vit_small_patch14_dinov2",
    "dinov2_s_reg4": "vit_small_patch14_reg4_dinov2",
    "dinov2_b_reg4": "vit_base_patch14_reg4_dinov2",
    "dinov2_g_reg4": "vit_giant_patch14_reg4_dinov2",
}
DEPTHS = {"dinov2_g_reg4": 2}
"""Of the 40 blocks of a network that would not fit into the memory of a computer without a GPU."""
_COUNTER = "num_batches_tracked"

Images = Float[np.ndarray, "b h w 3"]


class Pair(NamedTuple):
    """timm's network and ours with its weights."""

    name: str
    theirs: torch.nn.Module
    ours: Model
    params: Params
    batch_stats: BatchStats
    config: ModelConfig
    options: dict[str, Any]
    """Of `timm.create_model`, beside drop rates and the number of classes."""


def side_of(name: str, side: int) -> int:
    """The largest that the network takes up to `side`."""
    patch = getattr(filled_preset(ModelConfig(name=name)), "patch_size", 1)
    return side // patch * patch


def make_pair(
    name: str, *, image_size: int = 224, num_classes: int = 1000, pool: Pool = Pool.TOKEN, drop: float = 0.0
) -> Pair:
    """timm's in evaluation mode. `drop` is the rate of dropout and of drop path."""
    torch.manual_seed(0)
    config = ModelConfig(name=name, compute_dtype=Dtype.FLOAT32, pool=pool, dropout=drop, drop_path=drop)
    options: dict[str, Any] = {}
    drops: dict[str, Any] = {"drop_path_rate": drop}
    if family_of(config).is_transformer:
        options |= {"img_size": image_size} | ({"global_pool": "avg"} if pool is Pool.MEAN else {})
        drops |= {"pos_drop_rate": drop, "proj_drop_rate": drop}
    else:
        drops["drop_rate"] = drop
    if name in DEPTHS:
        config.depth = options["depth"] = DEPTHS[name]
    theirs = timm.create_model(TIMM_NAMES[name], pretrained=False, num_classes=num_classes, **options, **drops).eval()
    randomise(theirs)
    ours = create_model(config, num_classes=num_classes, image_size=image_size, byproduct_shape=None)
    weights = {key: value.numpy() for key, value in theirs.state_dict().items()}
    return Pair(name, theirs, ours, *timm_weights.from_timm(ours, weights), config, options)


def randomise(module: torch.nn.Module) -> None:
    """Draws what starts at 0 or 1, or nearly so."""
    for layer in module.modules():
        if isinstance(gamma := getattr(layer, "gamma", None), torch.nn.Parameter):  # layer scale
            torch.nn.init.uniform_(gamma, 0.5, 1.0)
        if isinstance(registers := getattr(layer, "reg_token", None), torch.nn.Parameter):
            torch.nn.init.normal_(registers, std=0.2)
        if isinstance(layer, torch.nn.BatchNorm2d | torch.nn.LayerNorm):
            torch.nn.init.uniform_(layer.weight, 0.5, 1.0)
            torch.nn.init.normal_(layer.bias, std=0.2)
        if isinstance(layer, torch.nn.BatchNorm2d):
            assert layer.running_mean is not None and layer.running_var is not None
            torch.nn.init.normal_(layer.running_mean, std=0.2)
            torch.nn.init.uniform_(layer.running_var, 0.5, 2.0)


def draw_images(batch: int, side: int) -> Images:
    """As normalised images are: mean 0, deviation 1."""
    return np.random.default_rng(0).normal(size=(batch, side, side, 3)).astype(np.float32)


def to_nchw(images: Images) -> torch.Tensor:
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def relative_error(ours: Any, theirs: Any) -> float:
    """The largest difference over the largest absolute value."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if ours.shape != theirs.shape:
        raise ValueError(f"shape {ours.shape} where timm has {theirs.shape}")
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


# --- logits and gradients


def logits(pair: Pair, images: Images) -> tuple[np.ndarray, np.ndarray]:
    """(ours, theirs) in evaluation mode."""
    with torch.no_grad():
        theirs = pair.theirs(to_nchw(images)).numpy()
    outputs, _ = jax.jit(functools.partial(pair.ours.apply, train=False))(pair.params, pair.batch_stats, images)
    return np.asarray(outputs.logits), theirs


def gradients(pair: Pair, images: Images, *, double: bool = False) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(ours, theirs) of every parameter by timm's name, in training mode: BatchNorm by the batch's own statistics.

    The loss is the sum of the logits by fixed normal weights. `double` computes both in float64, ours but for its
    float32 features and logits: in float32 some of a deep ResNet's activations lie so near 0 that rounding decides on
    which side of the ReLU, and each side has another gradient.
    """
    weights = np.random.default_rng(1).normal(size=(len(images), pair.ours.num_classes)).astype(np.float32)
    theirs = _their_gradients(pair.theirs, images, weights, double=double)
    with jax.enable_x64(double):
        ours = _our_gradients(pair, images, weights, double=double)
    return {name: (ours[name], value) for name, value in theirs.items()}


def _their_gradients(
    module: torch.nn.Module, images: Images, weights: np.ndarray, *, double: bool
) -> dict[str, np.ndarray]:
    kind = torch.float64 if double else torch.float32
    module = copy.deepcopy(module).to(kind).train()  # training moves the running statistics
    (module(to_nchw(images).to(kind)) * torch.from_numpy(weights)).sum().backward()
    return {name: parameter.grad.numpy() for name, parameter in module.named_parameters()}


def _our_gradients(pair: Pair, images: Images, weights: np.ndarray, *, double: bool) -> dict[str, np.ndarray]:
    model, params, batch_stats = pair.ours, pair.params, pair.batch_stats
    inputs: Any = images
    if double:
        config = dataclasses.replace(pair.config)
        config.compute_dtype = types.SimpleNamespace(value="float64")  # pyright: ignore[reportAttributeAccessIssue] (only here)
        model = create_model(config, num_classes=model.num_classes, image_size=model.image_size, byproduct_shape=None)
        params, batch_stats, inputs = jax.tree.map(
            lambda leaf: jnp.asarray(leaf, jnp.float64), (params, batch_stats, images)
        )

    @jax.jit
    def gradient(params: Params, batch_stats: BatchStats, images: Any, weights: Any) -> Params:
        def loss(params: Params) -> Any:
            outputs, _ = model.apply(params, batch_stats, images, train=True)
            return (outputs.logits * weights).sum()

        return jax.grad(loss)(params)

    found = gradient(params, batch_stats, inputs, weights)
    return timm_weights.to_timm(model, found, {})


def distance(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """Between all arrays together: the norm of the difference over the norm of the second ones."""
    pairs = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in pairs]
    return (sum(((a - b) ** 2).sum() for a, b in pairs) / sum((b**2).sum() for _, b in pairs)) ** 0.5


# --- layer by layer

_OURS: tuple[Any, ...] = (nnx.Conv, nnx.Linear, nnx.BatchNorm, nnx.LayerNorm, resnet.StemLayers)
_OURS += (resnet.BasicBlock, resnet.Bottleneck, vit.Attention, vit.Mlp, vit.SwiGlu, vit.Block)
_OURS += (convnext.Block, convnext.Downsample)
_THEIRS = (torch.nn.Conv2d, torch.nn.Linear, torch.nn.BatchNorm2d, torch.nn.LayerNorm, torch.nn.MaxPool2d)
_LAST = (torch.nn.LayerNorm, timm.layers.LayerNorm)
_THEIR_BLOCKS = r"layer\d\.\d+|blocks\.\d+(\.attn|\.mlp)?|pos_drop|stages\.\d\.blocks\.\d+|stages\.[1-9]\.downsample"
_CONTAINERS = (
    (r"stem", r"maxpool"),
    (r"stage(\d)/(\d+)", r"layer\1.\2"),
    (r"blocks/(\d+)", r"blocks.\1"),
    (r"blocks/(\d+)/attention", r"blocks.\1.attn"),
    (r"blocks/(\d+)/mlp", r"blocks.\1.mlp"),
    (r"stages/(\d)/blocks/(\d+)", r"stages.\1.blocks.\2"),
    (r"stages/(\d)/downsample", r"stages.\1.downsample"),
)


def layers(pair: Pair, images: Images) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(timm's name, our output, theirs) of every layer and block in evaluation mode, in timm's order of computing."""
    theirs = _their_layers(pair, images)
    ours = _our_layers(pair, images)
    # Ours multiplies by a ViT's q, k and v apart: what comes of them is seen in the block's `attn`.
    theirs = {name: value for name, value in theirs.items() if not name.endswith(".qkv")}
    if ours.keys() != theirs.keys():
        raise ValueError(f"layers of one network only: {sorted(ours.keys() ^ theirs.keys())}")
    for name, value in theirs.items():
        # timm normalises every token and then takes the class token's; ours takes first.
        alone = name == "norm" and ours[name].ndim < value.ndim
        value = value[:, 0] if alone else value
        yield name, ours[name], value.reshape(ours[name].shape) if name == "head.norm" else value  # 1x1 positions


def _their_layers(pair: Pair, images: Images) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}

    def keep(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: torch.Tensor) -> None:
            array = output.detach().numpy().copy()  # the activation after it may work in place
            # Inside of its blocks timm's ConvNeXt has channels last already.
            is_nchw = array.ndim == 4 and not isinstance(module, torch.nn.Linear) and type(module) not in _LAST
            found[name] = array.transpose(0, 2, 3, 1) if is_nchw else array

        return hook

    handles = [
        module.register_forward_hook(keep(name))
        for name, module in pair.theirs.named_modules()
        if isinstance(module, _THEIRS) or re.fullmatch(_THEIR_BLOCKS, name)
    ]
    with torch.no_grad():
        pair.theirs(to_nchw(images))
    for handle in handles:
        handle.remove()
    return found


def _our_layers(pair: Pair, images: Images) -> dict[str, np.ndarray]:
    def forward(params: Params, batch_stats: BatchStats, images: Any) -> dict[str, Any]:
        backbone = pair.ours.bind("backbone", params, batch_stats)
        with _recorded(backbone) as found:
            features, _, _ = backbone(images, train=False)
        values = {_their_name(pair.ours, path): value for path, value in found.items()}
        if isinstance(backbone, vit.ViT):
            values["pos_drop"] = backbone.embed(images)
        logits = pair.ours.bind("classifier", params)(features)
        return values | {logits_name(pair): logits}

    return jax.device_get(jax.jit(forward)(pair.params, pair.batch_stats, images))


def logits_name(pair: Pair) -> str:
    """timm's of the classifier."""
    return dict(FAMILIES[pair.ours.family].timm_layers)["classifier"]


@contextlib.contextmanager
def _recorded(module: nnx.Module) -> Iterator[dict[str, Any]]:
    """Path to output of every layer of `module` that runs inside."""
    paths = {id(part): "/".join(map(str, path)) for path, part in nnx.iter_modules(module)}
    found: dict[str, Any] = {}

    def recording(call: Any) -> Any:
        @functools.wraps(call)
        def wrapped(self: nnx.Module, *args: Any, **kwargs: Any) -> Any:
            found[paths[id(self)]] = output = call(self, *args, **kwargs)
            return output

        return wrapped

    originals = {kind: kind.__call__ for kind in _OURS}
    try:
        for kind, call in originals.items():
            kind.__call__ = recording(call)
        yield found
    finally:
        for kind, call in originals.items():
            kind.__call__ = call


def _their_name(model: Model, path: str) -> str:
    for pattern, template in _CONTAINERS:
        match = re.fullmatch(pattern, path)
        if match:
            return match.expand(template)
    return timm_weights.timm_name(model, f"backbone/{path}/bias").removesuffix(".bias")


# --- weights as files


def files_in(pair: Pair, folder: Path) -> tuple[int, int]:
    """(arrays that are the same bits, arrays) of a file written by torch and read by us."""
    state = {key: value for key, value in pair.theirs.state_dict().items() if not key.endswith(_COUNTER)}
    safetensors.torch.save_file(pair.theirs.state_dict(), folder / "theirs.safetensors")
    read = timm_weights.to_timm(pair.ours, *timm_weights.load_timm(folder / "theirs.safetensors", pair.ours))
    return sum(np.array_equal(read[key], value.numpy()) for key, value in state.items() if key in read), len(state)


def files_out(pair: Pair, folder: Path) -> tuple[int, int]:
    """(arrays that are the same bits, arrays) of a file written by us and read by `timm.create_model`."""
    path = folder / "ours.safetensors"
    timm_weights.save_timm(path, pair.ours, pair.params, pair.batch_stats)
    read = timm.create_model(
        TIMM_NAMES[pair.name], num_classes=pair.ours.num_classes, checkpoint_path=str(path), **pair.options
    )
    state = pair.theirs.state_dict()
    same = [
        np.array_equal(v.numpy(), state[k].numpy()) for k, v in read.state_dict().items() if not k.endswith(_COUNTER)
    ]
    return sum(same), len(same)


# --- the table


_HEAD = """
                   parameters          float32, evaluation   gradients, training      same bits of a file
model              ours        timm   logits     all layers   float64   float32       out          in"""


def main(names: list[str]) -> None:
    """Prints a row per model, one model in memory at a time."""
    unknown = [name for name in names if name not in TIMM_NAMES]
    if unknown:
        sys.exit(f"error: no such model: {', '.join(unknown)}; there are {', '.join(TIMM_NAMES)}")
    print(f"timm {timm.__version__}, torch {torch.__version__}, jax {jax.__version__}, {jax.devices()[0].device_kind}")
    print("Evaluation at 224 px, batch 2; gradients at 64 px (56 for patches of 14), batch 4. Errors are the largest")
    print("difference over the largest value, of the worst layer or parameter; those of float32 gradients the distance")
    print("from timm's in float64, ours / timm's, over all parameters.")
    print("".join(f"{name} has {depth} of its blocks.\n" for name, depth in DEPTHS.items()), end="")
    print(_HEAD)
    for name in names or TIMM_NAMES:
        print(_row(name), flush=True)
        jax.clear_caches()
        gc.collect()


def _row(name: str) -> str:
    pair = make_pair(name)
    theirs = sum(p.numel() for p in pair.theirs.parameters())
    errors = {layer: relative_error(a, b) for layer, a, b in layers(pair, draw_images(2, 224))}
    logits = errors[logits_name(pair)]
    with tempfile.TemporaryDirectory() as folder:
        read, written = files_in(pair, Path(folder)), files_out(pair, Path(folder))
    exact, ours_rounded, timm_rounded = _gradient_errors(name)
    columns = (
        f"{name:<13} {num_parameters(pair.params):>10,}  {theirs:>10,}",
        f"{logits:.1e}  {len(errors):>3}: {np.max(list(errors.values())):.1e}",
        f"{exact:.1e}   {ours_rounded:.1e} / {timm_rounded:.1e}",
        f"{written[0]:>3} of {written[1]:<3}  {read[0]:>3} of {read[1]}",
    )
    return "  ".join(columns)


def _gradient_errors(name: str) -> tuple[float, float, float]:
    """The worst parameter in float64, and how far ours and timm's in float32 are from timm's in float64."""
    side = side_of(name, 64)
    pair, images = make_pair(name, image_size=side), draw_images(4, side)
    double, single = gradients(pair, images, double=True), gradients(pair, images)
    exact = float(np.max([relative_error(a, b) for a, b in double.values()]))
    ours, theirs = (distance((single[n][side], double[n][1]) for n in double) for side in (0, 1))
    return exact, ours, theirs


if __name__ == "__main__":
    main(sys.argv[1:])

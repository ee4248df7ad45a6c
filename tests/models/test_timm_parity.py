"""The same weights and images give timm's numbers, layer by layer, and the weights travel both ways unharmed.

`benchmarks/parity.py` computes both sides. What these tests would see: a padding of strided convolutions or max-pool
on one side only ('SAME'), BatchNorm's momentum (0.9 here is torch's 0.1) and epsilon (1e-5), LayerNorm's epsilon in a
ViT (1e-6), the stride in the 3x3 of a bottleneck, a GELU that is not exact, the order of q, k and v.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity needs torch")
timm = pytest.importorskip("timm", reason="parity needs timm")

from benchmarks import parity  # noqa: E402
from benchmarks.parity import Pair, draw_images, make_pair, relative_error, to_nchw  # noqa: E402
from luab_jax.models import timm_weights  # noqa: E402
from luab_jax.models.config import ModelConfig, Pool  # noqa: E402
from luab_jax.models.functional import create_model, num_parameters  # noqa: E402
from luab_jax.models.timm_models import timm_call  # noqa: E402
from luab_jax.models.transfer import resample_positions  # noqa: E402

SLOW = ("resnet101", "resnet152", "vit_b", "convnext_s", "convnext_b", "deit3_b", "dinov2_s", "dinov2_b_reg4")
NAMES = [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in parity.TIMM_NAMES]
LOGITS, GRADIENTS = 1e-4, 1e-3  # relative to the largest absolute value


@functools.cache
def small(name: str, pool: Pool = Pool.TOKEN) -> Pair:
    """At 64 pixels, or 56 where patches have 14, with 10 classes."""
    return make_pair(name, image_size=parity.side_of(name, 64), num_classes=10, pool=pool)


@pytest.mark.parametrize("name", NAMES)
def test_parameter_count_and_logits_are_timms(name: str) -> None:
    pair = make_pair(name)
    assert num_parameters(pair.params) == sum(p.numel() for p in pair.theirs.parameters())
    assert relative_error(*parity.logits(pair, draw_images(1, 224))) <= LOGITS


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_gives_timms_output(name: str) -> None:
    """In timm's order of computing, so the first that differs is the one to look at."""
    watched = 0
    for layer, ours, theirs in parity.layers(small(name), draw_images(2, small(name).ours.image_size)):
        error = relative_error(ours, theirs)
        assert error <= LOGITS, f"{layer} is the first layer of {name} that differs: relative error {error:.1e}"
        watched += 1
    assert watched > 12


def test_the_first_layer_that_differs_is_found() -> None:
    pair = small("resnet18")
    changed = jax.tree.map(np.copy, pair.params)
    changed["backbone"]["stage2"]["0"]["norm1"]["bias"] += 0.1
    layers = parity.layers(pair._replace(params=changed), draw_images(2, 64))
    assert next(name for name, ours, theirs in layers if relative_error(ours, theirs) > LOGITS) == "layer2.0.bn1"


@pytest.mark.parametrize("name", NAMES)
def test_every_parameters_gradient_in_training_mode_is_timms(name: str) -> None:
    """In float64: see `parity.gradients`."""
    found = parity.gradients(small(name), draw_images(4, small(name).ours.image_size), double=True)
    errors = {parameter: relative_error(*pair) for parameter, pair in found.items()}
    wrong = [parameter for parameter, error in errors.items() if error > GRADIENTS]
    assert not wrong, (
        f"{len(wrong)} of {len(errors)} differ; the last of them is where the way back begins: {wrong[-1]}"
    )


@pytest.mark.parametrize("name", ["resnet18", "vit_ti"])
def test_gradients_of_float32_are_timms_where_the_network_is_not_deep(name: str) -> None:
    for parameter, pair in parity.gradients(small(name), draw_images(4, 64)).items():
        assert relative_error(*pair) <= GRADIENTS, parameter


def test_the_mean_of_patch_tokens_is_timms_global_pool_avg() -> None:
    pair = small("vit_ti", Pool.MEAN)
    assert relative_error(*parity.logits(pair, draw_images(2, 64))) <= LOGITS


@pytest.mark.parametrize(("name", "architecture"), [("dinov2_g_reg4", "vit_giant_patch14_reg4_dinov2")])
def test_networks_too_large_for_this_have_timms_arrays(name: str, architecture: str) -> None:
    """Names and shapes, which need no memory."""
    with torch.device("meta"):
        theirs = timm.create_model(architecture, num_classes=1000).state_dict()
    model = create_model(ModelConfig(name=name), num_classes=1000, image_size=518, byproduct_shape=None)
    assert timm_weights.timm_shapes(model) == {key: tuple(value.shape) for key, value in theirs.items()}


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vit_ti", "convnext_t", "dinov2_s_reg4", "dinov2_g_reg4"])
def test_files_travel_both_ways_bit_for_bit(name: str, tmp_path: Path) -> None:
    for same, arrays in (parity.files_in(small(name), tmp_path), parity.files_out(small(name), tmp_path)):
        assert same == arrays > 30


def test_timm_takes_weights_strictly_though_its_counters_are_not_written() -> None:
    pair = small("resnet18")
    weights = timm_weights.to_timm(pair.ours, pair.params, pair.batch_stats)
    assert set(weights) == {key for key in pair.theirs.state_dict() if not key.endswith("num_batches_tracked")}
    pair.theirs.load_state_dict({key: torch.from_numpy(array) for key, array in weights.items()}, strict=True)


def test_the_call_that_is_told_makes_a_network_of_the_same_shapes() -> None:
    names = ("resnet18", "resnet50", "vit_ti", "convnext_t", "deit3_s", "dinov2_s", "dinov2_s_reg4")
    configs = [ModelConfig(name=name) for name in names]
    configs += [ModelConfig(name="vit_ti", pool=Pool.MEAN), ModelConfig(name="vit_ti", layer_scale=1e-5)]
    for config in configs:
        side = 84 if config.name.startswith("dinov2") else 96
        call = timm_call(config, num_classes=7, image_size=side)
        assert call is not None
        with torch.device("meta"):
            made = eval(f"timm.{call}", {"timm": timm})  # what a user would paste
        ours = create_model(config, num_classes=7, image_size=side, byproduct_shape=None)
        arrays = {k: tuple(v.shape) for k, v in made.state_dict().items() if not k.endswith("num_batches_tracked")}
        assert arrays == timm_weights.timm_shapes(ours), call


@pytest.mark.parametrize(("old", "new"), [(14, 24), (14, 7), (4, 14), (14, 13), (3, 1)])
def test_position_embeddings_are_interpolated_as_timm_does(old: int, new: int) -> None:
    positions = np.random.default_rng(0).normal(size=(1, 1 + old * old, 8)).astype(np.float32)
    expected = timm.layers.resample_abs_pos_embed(torch.from_numpy(positions), [new, new]).numpy()
    assert relative_error(resample_positions(positions, new), expected) < 1e-5


@pytest.mark.parametrize("name", ["resnet18", "vit_ti", "deit3_s", "convnext_t"])
def test_dropout_and_drop_path_act_where_timms_do_and_scale_by_what_they_keep(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both draw the same mask for a tensor of the same shape, so that the outputs of training must agree."""
    pair = make_pair(name, image_size=64, num_classes=10, drop=0.3)
    images = draw_images(6, 64)
    masks: dict[str, list[tuple[float, tuple[int, ...]]]] = {"ours": [], "theirs": []}

    def mask(side: str, keep: float, shape: Any) -> np.ndarray:
        masks[side].append((round(float(keep), 6), tuple(shape)))
        return np.arange(np.prod(shape)).reshape(shape) % 3 > 0

    def our_bernoulli(key: Any, p: Any = 0.5, shape: Any = None, **_: Any) -> Any:
        return jax.numpy.asarray(mask("ours", p, shape))

    def their_bernoulli(tensor: Any, p: float) -> Any:
        return tensor.copy_(torch.from_numpy(mask("theirs", p, tensor.shape)))

    def their_dropout(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
        return x * torch.from_numpy(mask("theirs", 1 - p, x.shape)) / (1 - p) if p and training else x

    monkeypatch.setattr(jax.random, "bernoulli", our_bernoulli)
    monkeypatch.setattr(torch.Tensor, "bernoulli_", their_bernoulli)
    monkeypatch.setattr(torch.nn.functional, "dropout", their_dropout)
    with torch.no_grad():
        expected = pair.theirs.train()(to_nchw(images)).numpy()
    outputs, _ = jax.jit(
        lambda p, s, x: pair.ours.apply(p, s, x, train=True, key=jax.random.key(0)), static_argnums=()
    )(pair.params, pair.batch_stats, images)
    assert masks["ours"] == masks["theirs"] and len(masks["ours"]) > 7
    assert relative_error(outputs.logits, expected) <= LOGITS


def test_running_statistics_after_a_training_step_equal_torchs_up_to_its_variance() -> None:
    """Means are equal. Variances: torch puts n/(n-1) times the batch's variance into the average.

    n is the number of values per channel (batch * height * width) and differs by layer.
    """
    theirs, ours, params, stats = small.__wrapped__("resnet18")[1:5]  # not the shared one: it trains
    images = draw_images(4, 64)
    before = timm_weights.to_timm(ours, params, stats)
    counts = {}

    def count(name: str) -> Any:
        return lambda layer, inputs, output: counts.update({name: output[:, 0].numel()})

    handles = [
        layer.register_forward_hook(count(name))
        for name, layer in theirs.named_modules()
        if isinstance(layer, torch.nn.BatchNorm2d)
    ]
    theirs.train()
    with torch.no_grad():
        theirs(to_nchw(images))
    theirs.eval()
    expected = {key: value.numpy() for key, value in theirs.state_dict().items()}
    for handle in handles:
        handle.remove()

    _, new_stats = jax.jit(lambda p, s, x: ours.apply(p, s, x, train=True))(params, stats, images)
    found = timm_weights.to_timm(ours, params, new_stats)
    for name, n in counts.items():
        mean, var = f"{name}.running_mean", f"{name}.running_var"
        assert relative_error(found[mean], expected[mean]) <= LOGITS, mean
        biased = 0.9 * before[var] + (expected[var] - 0.9 * before[var]) * (n - 1) / n
        assert relative_error(found[var], biased) <= LOGITS, var

"""The same weights and images give timm's numbers, and the weights travel both ways unharmed.

Weights are random: trained ones are not needed to see a wrong padding, epsilon, order or GELU. Norm
scales, shifts and running statistics are drawn as well, since at their initial 0 and 1 half of the
layers would be invisible.
"""

import functools

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity needs torch")
timm = pytest.importorskip("timm", reason="parity needs timm")
pytest.importorskip("safetensors", reason="parity needs safetensors")

from luab_jax.models import timm_weights  # noqa: E402
from luab_jax.models.config import Dtype, ModelConfig, Pool  # noqa: E402
from luab_jax.models.functional import create_model, num_parameters  # noqa: E402

TIMM_NAMES = {
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "resnet101": "resnet101",
    "resnet152": "resnet152",
    "vit_ti": "vit_tiny_patch16_224",
    "vit_s": "vit_small_patch16_224",
    "vit_b": "vit_base_patch16_224",
}
SLOW = ("resnet101", "resnet152", "vit_b")
NAMES = [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in TIMM_NAMES]
TOLERANCE = 1e-4  # of the largest absolute value


@functools.cache
def pair(name: str, image_size: int = 224, num_classes: int = 1000, pool: Pool = Pool.TOKEN):
    """(timm's model in eval mode, ours, our params and batch_stats read from timm's weights)."""
    torch.manual_seed(0)
    options = {} if name.startswith("resnet") else {"img_size": image_size}
    if pool is Pool.MEAN:
        options["global_pool"] = "avg"
    theirs = timm.create_model(TIMM_NAMES[name], pretrained=False, num_classes=num_classes, **options).eval()
    randomise(theirs)
    ours = create_model(
        ModelConfig(name=name, compute_dtype=Dtype.FLOAT32, pool=pool),
        num_classes=num_classes,
        image_size=image_size,
        byproduct_shape=None,
    )
    weights = {key: value.numpy() for key, value in theirs.state_dict().items()}
    return theirs, ours, *timm_weights.from_timm(ours, weights)


def randomise(module) -> None:
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d | torch.nn.LayerNorm):
            torch.nn.init.uniform_(layer.weight, 0.5, 1.0)
            torch.nn.init.normal_(layer.bias, std=0.2)
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(layer.running_mean, std=0.2)
            torch.nn.init.uniform_(layer.running_var, 0.5, 2.0)


def draw_images(batch: int, side: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(batch, side, side, 3)).astype(np.float32)


def to_nchw(images: np.ndarray) -> "torch.Tensor":
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def relative_error(ours, theirs) -> float:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("name", NAMES)
def test_count_and_logits_equal_timms(name, record_property):
    theirs, ours, params, stats = pair(name)
    assert num_parameters(params) == sum(p.numel() for p in theirs.parameters())
    images = draw_images(1, 224)
    with torch.no_grad():
        expected = theirs(to_nchw(images)).numpy()
    outputs, _ = jax.jit(functools.partial(ours.apply, train=False))(params, stats, images)
    error = relative_error(outputs.logits, expected)
    record_property("max_relative_error", error)
    print(f"{name}: {num_parameters(params)} parameters, max relative logit error {error:.1e}")
    assert error <= TOLERANCE


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vit_ti"])
def test_every_block_equals_timms(name):
    """The first layer that differs is the one to look at."""
    theirs, ours, params, stats = pair(name, 64, 10)
    images = draw_images(2, 64)
    found = their_layers(theirs, to_nchw(images))
    layers = our_resnet_layers if name.startswith("resnet") else our_vit_layers
    values = jax.jit(lambda p, s, x: layers(ours.bind("backbone", p, s), x))(params, stats, images)
    assert list(found) == list(values)
    for layer, value in values.items():
        error = relative_error(value, found[layer])
        assert error <= TOLERANCE, f"{name}, {layer}: max relative error {error:.1e}"


def their_layers(model, images) -> dict[str, np.ndarray]:
    """Outputs of stem (or embedding) and of every block, by timm's names, channels last."""
    found = {}

    def keep(name):
        def hook(module, inputs, output):
            array = output.detach().numpy()
            found[name] = array.transpose(0, 2, 3, 1) if array.ndim == 4 else array

        return hook

    if hasattr(model, "layer1"):
        watched = {"maxpool": model.maxpool}
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            watched |= {f"{stage}.{i}": b for i, b in enumerate(getattr(model, stage))}
    else:
        watched = {"pos_drop": model.pos_drop}
        watched |= {f"blocks.{i}": block for i, block in enumerate(model.blocks)}
    handles = [module.register_forward_hook(keep(name)) for name, module in watched.items()]
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    return found


def our_resnet_layers(backbone, images):
    x = backbone.stem(images, train=False)
    values = [("maxpool", x)]
    for stage in range(1, 5):
        for index, block in enumerate(getattr(backbone, f"stage{stage}")):
            x = block(x, train=False)
            values.append((f"layer{stage}.{index}", x))
    return _Ordered(values)


def our_vit_layers(backbone, images):
    x = backbone.embed(images)
    values = [("pos_drop", x)]
    for index, block in enumerate(backbone.blocks):
        x = block(x, train=False)
        values.append((f"blocks.{index}", x))
    return _Ordered(values)


@jax.tree_util.register_pytree_node_class
class _Ordered(dict):
    """A dict that leaves jit in the order of the layers instead of the alphabet's."""

    def tree_flatten(self):
        return tuple(self.values()), tuple(self.keys())

    @classmethod
    def tree_unflatten(cls, keys, values):
        return cls(zip(keys, values, strict=True))


def test_the_mean_of_patch_tokens_equals_timms_global_pool_avg():
    theirs, ours, params, stats = pair("vit_ti", 32, 10, Pool.MEAN)
    images = draw_images(2, 32)
    with torch.no_grad():
        expected = theirs(to_nchw(images)).numpy()
    outputs, _ = jax.jit(functools.partial(ours.apply, train=False))(params, stats, images)
    assert relative_error(outputs.logits, expected) <= TOLERANCE


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vit_ti"])
def test_weights_travel_to_timm_and_back_bit_for_bit(name, tmp_path):
    theirs, ours, params, stats = pair(name, 64, 10)
    state = theirs.state_dict()
    weights = timm_weights.to_timm(ours, params, stats)
    assert set(weights) == {key for key in state if not key.endswith("num_batches_tracked")}
    for key, array in weights.items():
        np.testing.assert_array_equal(array, state[key].numpy(), err_msg=key)
    # timm takes them strictly, without the counters that we do not write.
    tensors = {key: torch.from_numpy(array) for key, array in weights.items()}
    theirs.load_state_dict(tensors, strict=True)

    path = tmp_path / "weights.safetensors"
    timm_weights.save_timm(path, ours, params, stats)
    again = timm_weights.load_timm(path, ours)
    assert jax.tree.structure(again) == jax.tree.structure((params, stats))
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves((params, stats)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_all_mismatches_are_told_at_once(tmp_path):
    _, ours, params, stats = pair("resnet18", 64, 10)
    weights = timm_weights.to_timm(ours, params, stats)
    weights["fc.weight"] = weights["fc.weight"][:5]
    weights["head.weight"] = weights.pop("conv1.weight")
    with pytest.raises(ValueError) as caught:
        timm_weights.from_timm(ours, weights)
    for words in (
        "1 missing: conv1.weight",
        "1 unexpected: head.weight",
        "1 of another shape: fc.weight (5, 512) where the model has (10, 512)",
    ):
        assert words in str(caught.value)
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(b"not weights")
    with pytest.raises(ValueError, match=r"torn\.safetensors is not a readable"):
        timm_weights.load_timm(torn, ours)


def test_running_statistics_after_a_training_step_equal_torchs_up_to_its_variance():
    """Means are equal. Variances: torch puts n/(n-1) times the batch's variance into the average.

    n is the number of values per channel (batch * height * width) and differs by layer.
    """
    theirs, ours, params, stats = pair.__wrapped__("resnet18", 64, 10)  # not the shared one: it trains
    images = draw_images(4, 64)
    before = timm_weights.to_timm(ours, params, stats)
    counts = {}

    def count(name):
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
        assert relative_error(found[mean], expected[mean]) <= TOLERANCE, mean
        biased = 0.9 * before[var] + (expected[var] - 0.9 * before[var]) * (n - 1) / n
        assert relative_error(found[var], biased) <= TOLERANCE, var

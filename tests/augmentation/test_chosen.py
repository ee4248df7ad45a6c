"""Chosen images are changed, others are not, whichever way it is done and on any number of devices."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from luab_jax.augmentation import chosen as chosen_lib
from luab_jax.augmentation.chosen import expected_maximum, few_at_once, for_chosen, room_for
from luab_jax.augmentation.config import AugmentationConfig
from luab_jax.augmentation.plan import make_plan
from luab_jax.augmentation.rand_augment import NOTHING, OPERATIONS, Layer, rand_augment
from luab_jax.models.rows import on_each_device
from luab_jax.preflight import hlo
from tests.augmentation.pictures import pictures

IMAGES = jnp.asarray(pictures(8, 16), jnp.float32)


@pytest.mark.parametrize("chosen", [[], [0], [7, 2, 3], list(range(8))])
def test_each_chosen_image_is_changed_with_its_own_arguments(chosen: list[int]) -> None:
    mask = np.isin(np.arange(8), chosen)
    factors = jnp.arange(8.0)

    def scaled(images: jax.Array, factors: jax.Array) -> jax.Array:
        return factors[:, None, None, None] * images

    found = jax.jit(functools.partial(for_chosen, operation=scaled))(IMAGES, mask, arguments=(factors,))
    assert np.array_equal(found, np.where(mask[:, None, None, None], scaled(IMAGES, factors), IMAGES))


@pytest.mark.parametrize("chosen", [[], [0], [7, 2], [7, 2, 3], list(range(8))])
def test_with_room_for_two_others_are_computed_all_at_once(chosen: list[int]) -> None:
    mask, factors = np.isin(np.arange(8), chosen), jnp.arange(8.0)
    computed: list[int] = []

    def scaled(images: jax.Array, factors: jax.Array) -> jax.Array:
        jax.debug.callback(lambda: computed.append(len(images)))
        return factors[:, None, None, None] * images

    found = jax.jit(functools.partial(few_at_once, scaled, 2))(IMAGES, mask, (factors,))
    expected = factors[:, None, None, None] * IMAGES
    assert np.array_equal(found, np.where(mask[:, None, None, None], expected, IMAGES))
    jax.effects_barrier()
    assert computed == [2 if len(chosen) <= 2 else 8]


@pytest.mark.parametrize(("platform", "loops", "questions"), [("cuda", 0, 1), ("cpu", 1, 0), ("tpu", 1, 0)])
def test_a_gpu_has_no_loop_and_asks_once_where_the_chosen_are_few(platform: str, loops: int, questions: int) -> None:
    def half(images: jax.Array) -> jax.Array:
        return images / 2

    def text(chance: float) -> str:
        images = jax.ShapeDtypeStruct((64, 16, 16, 3), jnp.float32)
        function = functools.partial(for_chosen, operation=half, chance=chance, gathers=True)
        traced = jax.jit(function).trace(images, jnp.ones(64, bool))
        return traced.lower(lowering_platforms=(platform,)).as_text()

    few, many = text(1 / 30), text(1 / 2)
    assert few.count("stablehlo.while") == many.count("stablehlo.while") == loops
    assert few.count("stablehlo.case") - many.count("stablehlo.case") == questions, "all have those for the platform"


@pytest.mark.parametrize(("chance", "rows"), [(1 / 30, 16), (1 / 30, 512), (0.31, 512), (0.31, 4096)])
def test_the_room_is_hardly_ever_too_small(chance: float, rows: int) -> None:
    room = room_for(chance, rows)
    assert scipy.stats.binom.sf(room, rows, chance) < 1e-8 and room <= rows
    assert room <= 1.3 * scipy.stats.binom.isf(1e-8, rows, chance) + 6, "and not much larger than needed"


@pytest.mark.parametrize("room", [None, 1, 20])
def test_a_gpu_makes_the_pixels_of_a_loop(room: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Carried out on a CPU; with room for one image, all are computed."""
    images = jnp.asarray(pictures(64, 16), jnp.float32)
    config = AugmentationConfig(rand_augment_magnitude=9.0, rand_augment_probability=1.0)
    plan = make_plan(config, jax.random.key(3), num_rows=64, side=16)

    def augmented() -> jax.Array:
        return jax.jit(functools.partial(rand_augment, fill=(1.0, 2.0, 3.0), probability=1.0))(images, plan.layers)

    looped = augmented()
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *a, default, cuda=None, **_: (cuda or default)(*a))
    if room is not None:
        monkeypatch.setattr(chosen_lib, "room_for", lambda chance, rows: room)
    assert np.array_equal(augmented(), looped) and not np.array_equal(looped, images)


def test_devices_change_their_own_rows_as_one_device_does() -> None:
    plan = make_plan(
        AugmentationConfig(rand_augment_magnitude=9.0, rand_augment_probability=1.0),
        jax.random.key(2),
        num_rows=8,
        side=16,
    )
    assert plan.layers is not None
    augment = functools.partial(rand_augment, fill=(1.0, 2.0, 3.0))
    alone = jax.jit(augment)(IMAGES, plan.layers)
    rows = NamedSharding(Mesh(np.asarray(jax.devices()[:4]), ("data",)), P("data"))
    on_four = jax.jit(functools.partial(on_each_device, augment, rows), in_shardings=rows)
    program = on_four.lower(IMAGES, plan.layers).compile()
    assert hlo.read(program.as_text() or "").collectives == ()
    spread = program(*jax.device_put((IMAGES, plan.layers), rows))
    assert np.array_equal(alone, spread) and not np.array_equal(alone, IMAGES)
    assert spread.sharding.is_equivalent_to(rows, 4)


def test_an_image_that_nothing_moves_keeps_every_level() -> None:
    """At 224 px a place computed in fractions and back is off by 1e-5 of a pixel: at an edge a level too low."""
    image = jnp.asarray(np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3)), jnp.float32)
    inverts, nothing = (
        Layer(jnp.asarray([number]), jnp.ones(1), jnp.ones(1)) for number in (OPERATIONS.index("invert"), NOTHING)
    )
    for layers in ((inverts, nothing), (nothing, inverts)):
        assert np.array_equal(jax.jit(rand_augment, static_argnums=2)(image, layers, (0.0,) * 3), 255 - image)


@pytest.mark.parametrize("rows", [16, 64, 1030, 4096, 65536])
def test_the_expected_maximum_is_the_mean_of_the_largest_count(rows: int) -> None:
    rng = np.random.default_rng(0)
    for chance, devices in ((1 / 30, 256), (0.3, 256), (0.3, 16), (0.999, 2)):
        largest = rng.binomial(rows, chance, (4000, devices)).max(-1)
        error = 4 * largest.std() / 4000**0.5
        assert expected_maximum(chance, rows, devices) == pytest.approx(largest.mean(), abs=0.5 + error)
    assert expected_maximum(0.5, rows, 1) == rows // 2
    assert expected_maximum(0.0, rows, 8) == 0 and expected_maximum(1.0, rows, 8) == rows

"""Weights for another resolution: what is kept, what is interpolated, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from luab_jax.models.config import ModelConfig
from luab_jax.models.functional import Model, create_model
from luab_jax.models.transfer import fit_backbone, num_heads, patches_per_side, resample_positions
from tools.miniatures import random_params


def vit(image_size: int, **changes: int) -> Model:
    fields = {"embed_dim": 12, "depth": 1, "patch_size": 8} | changes
    return create_model(
        ModelConfig(name="vit_ti", **fields), num_classes=3, image_size=image_size, byproduct_shape=None
    )


def resnet(**changes: object) -> Model:
    fields: dict = {"width": 4, "stage_sizes": (1, 1)} | changes
    return create_model(ModelConfig(name="resnet18", **fields), num_classes=3, image_size=32, byproduct_shape=None)


@pytest.mark.parametrize(("old", "new"), [(2, 3), (5, 2), (4, 8)])
def test_the_class_token_is_untouched_and_a_flat_grid_stays_flat(old: int, new: int) -> None:
    positions = np.full((1, 1 + old * old, 3), 7.0, np.float32)
    positions[:, 0] = [1, 2, 3]
    found = resample_positions(positions, new)
    assert found.shape == (1, 1 + new * new, 3)
    np.testing.assert_array_equal(found[:, 0], positions[:, 0])
    np.testing.assert_allclose(found[:, 1:], 7.0, rtol=1e-6)


def test_rows_stay_rows_and_columns_stay_columns() -> None:
    grid = np.broadcast_to(np.arange(4, dtype=np.float32)[:, None], (4, 4))
    positions = np.concatenate([[0], grid.ravel()]).astype(np.float32).reshape(1, 17, 1)
    found = resample_positions(positions, 7)[0, 1:, 0].reshape(7, 7)
    assert np.ptp(found, axis=1).max() < 1e-5 and np.all(np.diff(found[:, 0]) > 0)


def test_tokens_that_are_no_square_are_refused() -> None:
    for tokens in (1, 3, 7):
        with pytest.raises(ValueError, match=f"{tokens} position embeddings are neither"):
            patches_per_side(tokens)


def test_a_grid_without_a_class_token_is_resampled_alone() -> None:
    positions = np.random.default_rng(0).normal(size=(1, 10, 3)).astype(np.float32)
    assert (patches_per_side(10), patches_per_side(9)) == (3, 3)
    np.testing.assert_array_equal(resample_positions(positions, 5)[:, 1:], resample_positions(positions[:, 1:], 5))


def test_a_backbone_fits_its_own_model_as_it_is_and_another_resolution_after_interpolation() -> None:
    params, stats = random_params(vit(32))
    same = fit_backbone(vit(32), params, stats)
    assert same.resampled is None
    np.testing.assert_array_equal(same.params["position_embed"], params["backbone"]["position_embed"])
    larger = fit_backbone(vit(48), params, stats)
    assert larger.resampled == (4, 6)
    assert larger.params["position_embed"].shape == (1, 37, 12)
    np.testing.assert_array_equal(larger.params["patch_embed"]["kernel"], params["backbone"]["patch_embed"]["kernel"])


def test_another_architecture_is_refused_with_what_differs() -> None:
    params, stats = random_params(vit(32))
    with pytest.raises(ValueError, match=r"attention/out/bias \(12,\) where \(24,\) is needed"):
        fit_backbone(vit(32, embed_dim=24), params, stats)
    with pytest.raises(ValueError, match=r"blocks/1/attention/out/bias missing where \(12,\) is needed; .* more"):
        fit_backbone(vit(32, depth=2), params, stats)
    with pytest.raises(ValueError, match=r"params/stage1/0/conv1/kernel missing"):
        fit_backbone(resnet(), params, stats)
    params, stats = random_params(resnet())
    with pytest.raises(ValueError, match=r"params/stage1/1/conv1/kernel missing .*; and"):
        fit_backbone(resnet(stage_sizes=(2, 1)), params, stats)


def test_the_number_of_heads_stands_in_no_shape() -> None:
    assert num_heads(ModelConfig(name="vit_s")) == 6
    assert num_heads(ModelConfig(name="resnet18")) is None

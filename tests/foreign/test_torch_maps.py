"""Class activation maps of modules of torch that have methods named as timm's, and what is said where they fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from luab_jax.data.transforms import Preprocessing
from luab_jax.errors import UserError
from luab_jax.foreign.torch_module import module_model

PREPROCESSING = Preprocessing(image_size=16, resize_side=16)
CHECKPOINT = "torch:mine:own"


def of_its_own(*, features: Exception | None = None, logits: Exception | None = None) -> Any:
    """A linear layer on the mean of squared images, one of whose methods fails as told."""
    torch = pytest.importorskip("torch", reason="modules of torch need torch")

    class OfItsOwn(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = torch.nn.Linear(3, 5)

        def forward(self, images: Any) -> Any:
            if logits is not None:
                raise logits
            return self.last((images**2).mean((2, 3)))

        def get_classifier(self) -> Any:
            return self.last

        def forward_features(self, images: Any) -> Any:
            if features is not None:
                raise features
            return images**2

    return OfItsOwn()


def test_the_mean_of_a_map_and_the_bias_are_the_logit() -> None:
    module = of_its_own()
    model = module_model(module, PREPROCESSING, "own", CHECKPOINT)
    assert model.maps is not None and model.map_kind == "class_activation_map"
    fed = model.feed(np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8))
    bias = module.last.bias.detach().numpy()
    found = np.asarray(model.maps(fed, np.asarray([1, 4]))).mean(axis=(1, 2)) + bias[[1, 4]]
    np.testing.assert_allclose(found, model.function(fed)[[0, 1], [1, 4]], rtol=1e-5, atol=1e-5)


def test_a_module_whose_features_cannot_be_had_has_no_map_and_still_gives_logits() -> None:
    model = module_model(of_its_own(features=NotImplementedError()), PREPROCESSING, "own", CHECKPOINT)
    assert model.maps is None
    assert model.function(model.feed(np.zeros((2, 16, 16, 3), np.uint8))).shape == (2, 5)


def test_a_module_that_gives_no_logits_is_told_in_one_line() -> None:
    with pytest.raises(UserError, match=r"torch:mine:own.* no such size") as error:
        module_model(of_its_own(logits=ValueError("no such size")), PREPROCESSING, "own", CHECKPOINT)
    assert "\n" not in str(error.value)

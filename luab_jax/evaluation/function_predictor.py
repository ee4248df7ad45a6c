"""Gives a function its batches."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from luab_jax.data.pipeline import Reading
from luab_jax.data.watermark import Font, laid_on
from luab_jax.errors import UserError
from luab_jax.evaluation.predictor import BatchPredictor
from luab_jax.evaluation.programs import Output, occlusion
from luab_jax.evaluation.rise import Rise
from luab_jax.evaluation.suite import Need, View
from luab_jax.foreign.model import FunctionModel


class FunctionPredictor(BatchPredictor[FunctionModel]):
    """Gives a function batches of `batch_size` images, the last one padded by black ones."""

    def __init__(
        self,
        model: FunctionModel,
        batch_size: int,
        reading: Reading,
        maps: Rise | None = None,
        font: Font | None = None,
    ):
        """With `maps`, those are made by occlusion.

        Raises `UserError` on several hosts, whose functions know nothing of each other.
        """
        if jax.process_count() > 1:
            raise UserError(f"{model.name} is evaluated by one process; several hosts evaluate workdirs or timm:FILE")
        self.loaded = model
        self.batch_size = batch_size
        self.reading = reading
        self.rise = maps
        self.font = font

    @property
    def gives(self) -> frozenset[Need]:
        has_map = self.loaded.maps is not None or self.rise is not None
        found = {Need.LOGITS: True, Need.MAP: has_map, Need.FONT: self.font is not None}
        return frozenset(need for need, given in found.items() if given)

    @property
    def map_kind(self) -> str:
        return self.rise.name if self.rise is not None else self.loaded.map_kind

    @property
    def maps_at_once(self) -> int:
        """By occlusion, a map costs as many predictions as there are masks: a batch of maps can take an hour."""
        return self.batch_size if self.rise is None else max(1, self.batch_size // self.rise.num_masks)

    def place(self, images: Any) -> UInt8[np.ndarray, "b h w 3"]:
        """Where they are."""
        return np.asarray(images)

    def outputs_of(self, images: UInt8[np.ndarray, "b h w 3"], view: View) -> Output:
        """Raises `UserError` for outputs that are no logits of the images."""
        if view is View.WATERMARK:
            images = laid_on(images, self.mark(images.shape[1]))
        hidden, black = occlusion(view, images.shape[1])
        fed = self.loaded.feed(images, hidden, black=bool(black))
        return self.loaded.logits(self.loaded.outputs_of(fed)), None

    def maps(self, images: UInt8[np.ndarray, "n h w 3"], labels: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n i j"]:
        if self.rise is not None:
            return self.rise.maps(self, images, labels)
        assert self.loaded.maps is not None
        columns = labels if self.loaded.columns is None else self.loaded.columns[labels]
        returned = self.loaded.maps(self.loaded.feed(images), columns)
        try:
            maps = np.asarray(returned, np.float32)
        except (TypeError, ValueError, RuntimeError) as e:  # RuntimeError: of a torch tensor with gradients
            raise UserError(f"{self.loaded.name}: its maps are no array ({e}); return [{len(images)}, i, j]") from e
        if maps.ndim != 3 or len(maps) != len(images):
            raise UserError(f"{self.loaded.name}: its maps are {maps.shape}; expected [{len(images)}, i, j]")
        return maps

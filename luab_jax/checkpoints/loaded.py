"""A trained model, of a workdir or of timm, with what it was trained to see."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from luab_jax.byproducts.targets import Target
from luab_jax.config import Config
from luab_jax.data.class_lists import ClassList
from luab_jax.data.transforms import Preprocessing, Stored
from luab_jax.errors import UserError
from luab_jax.models.config import Attention, HeadSpec, ModelConfig
from luab_jax.models.functional import Model, create_model


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model, its weights on the mesh, and its description."""

    name: str
    identity: dict[str, Any]
    """What tells this checkpoint from any other, for results to be compared and resumed."""
    model: Model
    params: dict[str, Any]
    batch_stats: dict[str, Any]
    preprocessing: Preprocessing
    class_list_hash: str
    label_sets: bool = False
    """Whether it scores sets of labels, by a sigmoid per class."""
    target: Target | None = None
    annotators: tuple[str, ...] = ()
    """In the order of the outputs of a head that tells who annotated."""
    """What its byproduct head, the first of several, predicts; `None` where that is not known."""
    config: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    """What the model was built from."""
    sides: frozenset[int] = frozenset()
    """Input sides at which the network may be fed squares as they are stored; for a ViT its own side only."""
    classes: ClassList | None = None
    """None where only the hash of the list is known."""
    experiment: Config | None = None
    """Of a run; None for weights of timm's."""

    def side_for(self, stored: Stored) -> int:
        """Side of the input for files of a suite: as they are stored, if the network was made for that size too."""
        if stored.side is not None and stored.side in self.sides:
            return stored.side
        return self.preprocessing.image_size

    @property
    def num_classes(self) -> int:
        return self.model.num_classes

    @property
    def has_byproduct_head(self) -> bool:
        return bool(self.model.heads)

    @property
    def targets(self) -> tuple[Target, ...]:
        """What its heads predict; empty without one, and where that is not known."""
        return tuple(Target(spec.name) for spec in self.model.heads if spec.name)


def create(config: ModelConfig, *, num_classes: int, image_size: int, heads: tuple[HeadSpec, ...]) -> Model:
    """A network to evaluate; raises `UserError` for a config of which none can be made."""
    try:
        # The kernel that the training machine had need not be here.
        config = dataclasses.replace(config, attention=Attention.AUTO)
        return create_model(config, num_classes=num_classes, image_size=image_size, heads=heads)
    except (TypeError, ValueError) as e:  # TypeError: of a config that was edited
        raise UserError(str(e)) from e

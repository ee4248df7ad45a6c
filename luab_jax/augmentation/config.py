"""Which augmentations a run uses beyond crop and flip. Everything is off unless a recipe turns it on.

Needs no jax, so that configs and command-line help stay quick to load.
"""

import math
from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class AugmentationConfig:
    """Strengths and probabilities; 0 turns an augmentation off."""

    enabled: bool = True
    """False turns all of them off, whatever the other fields say: crop and flip only, as in the paper's notebooks."""
    colour_jitter: float = 0.0
    """Brightness, contrast and saturation change by factors from [max(0, 1 - s), 1 + s], in random order
    (torchvision's ColorJitter)."""
    lighting: float = 0.0
    """Standard deviation of the shifts along the principal components of ImageNet's colours (Krizhevsky et al. 2012,
    §4.1)."""
    rand_augment_magnitude: float = 0.0
    """M of RandAugment (Cubuk et al. 2020), 0 to 10, with timm's operations that grow stronger with it (`inc1`)."""
    rand_augment_std: float = 0.5
    """Standard deviation of the magnitude (timm's `mstd`)."""
    rand_augment_probability: float = 0.5
    """With which each of the two drawn operations is carried out."""
    erasing: float = 0.0
    """Probability of a rectangle of noise (Zhong et al. 2020; timm's mode `pixel`)."""
    mixup: float = 0.0
    """α of the Beta distribution of λ (Zhang et al. 2018)."""
    cutmix: float = 0.0
    """The same for rectangles (Yun et al. 2019)."""
    mix_switch_probability: float = 0.5
    """Of cutmix instead of mixup where both are on."""
    mix_draws: int = 1
    """How often mixup or cutmix, λ and rectangle are drawn for a batch: 1, 2, 4 or 8, each for an equal part of it."""
    repeats: int = 1
    """Crops of an image that follow each other in the data order; an epoch stays as long, and sees 1 / `repeats` of the
    images (repeated augmentation: Hoffer et al. 2020; DeiT's RASampler)."""

    def validate(self) -> None:
        """Raises ValueError naming the field, its value and the remedy."""
        for name in ("colour_jitter", "lighting", "rand_augment_std", "mixup", "cutmix"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"augmentation.{name}={getattr(self, name)} must be a number of 0 or more")
        for name in ("rand_augment_probability", "erasing", "mix_switch_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augmentation.{name}={getattr(self, name)} is a probability: from 0 to 1")
        if not 0 <= self.rand_augment_magnitude <= 10:
            raise ValueError(f"augmentation.rand_augment_magnitude={self.rand_augment_magnitude} must be from 0 to 10")
        if self.mix_draws not in (1, 2, 4, 8):
            raise ValueError(f"augmentation.mix_draws={self.mix_draws} must be 1, 2, 4 or 8")
        if self.repeats < 1:
            raise ValueError(f"augmentation.repeats={self.repeats} must be 1 or more")

    @property
    def mixes(self) -> bool:
        """Whether images are mixed with others of their batch."""
        return self.enabled and (self.mixup > 0 or self.cutmix > 0)

    @property
    def on_device(self) -> bool:
        """Whether the training step has anything to do."""
        strengths = (self.colour_jitter, self.lighting, self.rand_augment_magnitude, self.erasing)
        return self.enabled and (self.mixes or any(strength > 0 for strength in strengths))

    @property
    def crops_in_a_row(self) -> int:
        """`repeats` where augmentation is enabled."""
        return self.repeats if self.enabled else 1

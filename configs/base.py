"""What the experiments on ImageNet-AB share.

The paper does not state its recipes (suites.md §16). The ResNets follow ReLabel (Yun et al. 2021, §4.1), whose vanilla
results the paper's baselines match to 0.1; the ViTs follow DeiT (Touvron et al. 2021, `main.py` defaults), which the
paper's ViT-S baseline matches to 0.4. Both are inferred, not stated by the authors.

λ is not stated either. 10 is the best of {1, 3, 10, 30} in this repository's demo (README), with smooth-L1 averaged
over the coordinates, which are fractions of the crop.
"""

from __future__ import annotations

from luab_jax.byproducts.targets import Target
from luab_jax.config import ByproductConfig, Config, DataConfig, OptimConfig, Optimizer, WeightDecayMask
from luab_jax.data.transforms import Preprocessing
from luab_jax.models.config import ModelConfig


def imagenet_resnet(name: str) -> Config:
    """SGD with Nesterov momentum, 300 epochs, batch 1024."""
    return Config(
        epochs=300.0,
        batch_size=1024,
        model=ModelConfig(name=name),
        data=DataConfig(preprocessing=Preprocessing(image_size=224, resize_side=256)),
        byproduct=ByproductConfig(target=Target.CLICK_LAST, weight=10.0),
        optim=OptimConfig(
            name=Optimizer.SGD,
            learning_rate=0.1,
            momentum=0.9,
            nesterov=True,
            warmup_epochs=5.0,
            weight_decay=1e-4,
            weight_decay_mask=WeightDecayMask.ALL,
        ),
    )


def imagenet_vit(name: str) -> Config:
    """AdamW at 5e-4 per 512 images, 300 epochs, batch 1024, label smoothing and drop path 0.1."""
    return Config(
        epochs=300.0,
        batch_size=1024,
        label_smoothing=0.1,
        model=ModelConfig(name=name, drop_path=0.1),
        data=DataConfig(preprocessing=Preprocessing(image_size=224, resize_side=256)),
        byproduct=ByproductConfig(target=Target.CLICK_LAST, weight=10.0),
        optim=OptimConfig(
            name=Optimizer.ADAMW,
            learning_rate=5e-4 * 1024 / 512,
            final_learning_rate=1e-5,
            warmup_epochs=5.0,
            weight_decay=0.05,
            weight_decay_mask=WeightDecayMask.MATRICES,
        ),
    )

"""A ViT's weights as a folder in Hugging Face's layout: config.json, preprocessor_config.json, model.safetensors.

Names are those of transformers' ViTForImageClassification, whose query, key and value are three matrices where timm's
are one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from luab_jax.data.class_lists import ClassList
from luab_jax.data.transforms import Preprocessing, ResizeFilter

_PARTS = (
    ("cls_token", "vit.embeddings.cls_token"),
    ("pos_embed", "vit.embeddings.position_embeddings"),
    (r"patch_embed\.proj", "vit.embeddings.patch_embeddings.projection"),
    (r"blocks\.(\d+)\.norm1", r"vit.encoder.layer.\1.layernorm_before"),
    (r"blocks\.(\d+)\.attn\.proj", r"vit.encoder.layer.\1.attention.output.dense"),
    (r"blocks\.(\d+)\.norm2", r"vit.encoder.layer.\1.layernorm_after"),
    (r"blocks\.(\d+)\.mlp\.fc1", r"vit.encoder.layer.\1.intermediate.dense"),
    (r"blocks\.(\d+)\.mlp\.fc2", r"vit.encoder.layer.\1.output.dense"),
    ("norm", "vit.layernorm"),
    ("head", "classifier"),
)
"""timm's name of a layer to transformers'."""
_NORM_EPSILON = 1e-6
"""timm's; transformers' own default is 1e-12."""
_RESAMPLE = {ResizeFilter.BILINEAR: 2, ResizeFilter.BICUBIC: 3}
"""PIL's numbers."""


def write_vit(
    folder: Path, weights: Mapping[str, np.ndarray], *, num_heads: int, preprocessing: Preprocessing, classes: ClassList
) -> Path:
    """Of weights by timm's names, whose shapes say the rest. Raises ValueError for those of another network."""
    renamed = dict(pair for name, array in weights.items() for pair in _renamed(name, array))
    patch, hidden = weights["patch_embed.proj.weight"].shape[-1], weights["cls_token"].shape[-1]
    config = {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "hidden_size": hidden,
        "num_hidden_layers": sum(name.endswith("attn.proj.weight") for name in weights),
        "num_attention_heads": num_heads,
        "intermediate_size": len(weights["blocks.0.mlp.fc1.bias"]),
        "hidden_act": "gelu",
        "layer_norm_eps": _NORM_EPSILON,
        "image_size": preprocessing.image_size,
        "patch_size": patch,
        "id2label": {str(number): name for number, name in enumerate(classes.ids)},
    }
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", config)
    _write_json(folder / "preprocessor_config.json", _processor(preprocessing))
    safetensors.numpy.save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _renamed(name: str, array: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    layer, _, leaf = name.rpartition(".")
    if attention := re.fullmatch(r"blocks\.(\d+)\.attn\.qkv", layer):
        of_block = f"vit.encoder.layer.{attention[1]}.attention.attention"
        for part, rows in zip(("query", "key", "value"), np.split(array, 3), strict=True):
            yield f"{of_block}.{part}.{leaf}", np.ascontiguousarray(rows)
        return
    for pattern, template in _PARTS:
        for whole, ending in ((name, ""), (layer, f".{leaf}")):
            if found := re.fullmatch(pattern, whole):
                yield found.expand(template) + ending, array
                return
    raise ValueError(f"{name}: ViTForImageClassification has no such weight")


def _processor(preprocessing: Preprocessing) -> dict[str, Any]:
    """As transformers' ViTImageProcessor would state a short side and a centre crop."""
    side, short = preprocessing.image_size, preprocessing.resize_side or preprocessing.image_size
    return {
        "image_processor_type": "ViTImageProcessor",
        "size": {"shortest_edge": short},
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "resample": _RESAMPLE[preprocessing.filter],
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
    }


def _write_json(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")

"""ONNX files of the tiny ResNet, with our weights, built node by node."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from luab_jax.checkpoints.loaded import LoadedModel
from luab_jax.config import MeshConfig
from luab_jax.data.class_lists import imagenet
from luab_jax.data.transforms import Preprocessing
from luab_jax.distributed import sharding
from luab_jax.models.functional import create_model
from tests import tiny

SIDE = tiny.SIDE
PREPROCESSING = Preprocessing(image_size=SIDE, resize_side=18)
"""As an ONNX file of this side is taken to want: 16 / 0.875 rounded down."""


def native(num_classes: int = 3, seed: int = 0) -> LoadedModel:
    """A tiny ResNet with drawn weights and statistics, whose answers depend on the image."""
    config = tiny.experiment(Path()).model
    model = create_model(config, num_classes=num_classes, image_size=SIDE, byproduct_shape=None)
    rng = np.random.default_rng(seed)

    def draw(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        kind = path[-1].key
        values = rng.normal(size=leaf.shape).astype(np.float32)
        if kind == "kernel":
            return values * np.float32(np.sqrt(2 / np.prod(leaf.shape[:-1])))
        return 1 + 0.1 * np.abs(values) if kind in ("scale", "var") else 0.1 * values

    params, batch_stats = jax.tree_util.tree_map_with_path(draw, model.abstract())
    place = sharding.replicated(sharding.make_mesh(MeshConfig()))
    classes = imagenet() if num_classes == 1000 else tiny.CLASSES
    identity = {
        "workdir": f"none/{seed}",
        "step": 0,
        "chosen": "latest",
        "dataset": "tiny",
        "class_list_hash": classes.hash,
    }
    identity |= {"model": "tiny", "target": "none", "weight": 0.0, "seed": 0, "experiment": {}, "dtype": "float32"}
    params, batch_stats = jax.device_put((params, batch_stats), place)
    loaded = LoadedModel("tiny", identity, model, params, batch_stats, PREPROCESSING, classes.hash)
    return dataclasses.replace(loaded, classes=classes, config=config, sides=frozenset({SIDE}))


def onnx_file(
    path: Path,
    loaded: LoadedModel,
    *,
    batch: int | str = "batch",
    dtype: str = "float32",
    layout: str = "nchw",
    softmax: bool = False,
    scale: float = 1.0,
    external: bool = False,
    channels: int | str = 3,
    side: int | str = SIDE,
) -> Path:
    """The network of `loaded`; `scale` is of the classifier's weights."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    kind = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}[dtype]
    params, stats = jax.device_get((loaded.params, loaded.batch_stats))
    backbone, means = params["backbone"], stats["backbone"]
    nodes: list[Any] = []
    weights: list[Any] = []

    def constant(values: np.ndarray, name: str) -> str:
        weights.append(numpy_helper.from_array(np.ascontiguousarray(values).astype(dtype), name))
        return name

    def add(operation: str, inputs: list[str], **attributes: Any) -> str:
        nodes.append(helper.make_node(operation, inputs, [f"x{len(nodes)}"], **attributes))
        return f"x{len(nodes) - 1}"

    def convolution(x: str, kernel: np.ndarray, norm: Any, of_norm: Any, stride: int, padding: int) -> str:
        at = f"w{len(nodes)}"
        kernel = constant(kernel.transpose(3, 2, 0, 1), at)
        x = add("Conv", [x, kernel], strides=[stride] * 2, pads=[padding] * 4)
        values = [norm["scale"], norm["bias"], of_norm["mean"], of_norm["var"]]
        return add("BatchNormalization", [x, *(constant(v, f"{at}_{i}") for i, v in enumerate(values))], epsilon=1e-5)

    x = "images" if layout == "nchw" else add("Transpose", ["images"], perm=[0, 3, 1, 2])
    stem, of_stem = backbone["stem"], means["stem"]
    x = add("Relu", [convolution(x, stem["conv"]["kernel"], stem["norm"], of_stem["norm"], 4, 0)])
    for stage, stride in (("stage1", 1), ("stage2", 2)):
        block, of_block = backbone[stage]["0"], means[stage]["0"]
        y = add("Relu", [convolution(x, block["conv1"]["kernel"], block["norm1"], of_block["norm1"], stride, 1)])
        y = convolution(y, block["conv2"]["kernel"], block["norm2"], of_block["norm2"], 1, 1)
        if "shortcut" in block:
            short, of_short = block["shortcut"], of_block["shortcut"]
            x = convolution(x, short["conv"]["kernel"], short["norm"], of_short["norm"], stride, 0)
        x = add("Relu", [add("Add", [x, y])])
    x = add("Flatten", [add("GlobalAveragePool", [x])])
    head = params["classifier"]
    x = add("Gemm", [x, constant(scale * head["kernel"], "head"), constant(head["bias"], "bias")])
    if softmax:
        x = add("Softmax", [x], axis=1)
    shape = [batch, channels, side, side] if layout == "nchw" else [batch, side, side, channels]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", kind, shape)],
        [helper.make_tensor_value_info(x, kind, [batch, loaded.num_classes])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path, save_as_external_data=external, location=f"{path.name}.data", size_threshold=0)
    return path

"""`onnx:FILE`: a model in ONNX's format, run by onnxruntime on the processor."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from luab_jax.data.transforms import Preprocessing
from luab_jax.errors import CheckpointError, UserError, option
from luab_jax.foreign.finish import finish
from luab_jax.foreign.inputs import InputFormat, Layout
from luab_jax.foreign.model import FunctionModel
from luab_jax.foreign.onnx_weights import external_files
from luab_jax.foreign.options import Options
from luab_jax.io import storage
from luab_jax.io.console import say
from luab_jax.io.wording import how_to_install
from luab_jax.results.foreign import Foreign

ONNX = "onnx:"
_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
_USUAL_CROP = 0.875
"""Side of the crop over the short side before it: 224 of 256."""


def load_onnx(checkpoint: str, options: Options) -> FunctionModel:
    """The first output with rows for images is what is scored; the input says type, layout, side and batch.

    Raises `CheckpointError` for a file that cannot be run or whose input is not one batch of images.
    """
    path = checkpoint.removeprefix(ONNX)
    digest, session = _open(path)
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(i.name for i in inputs)
        raise CheckpointError(f"{path}: has {len(inputs)} inputs ({names}); a model of images alone has one")
    given, output = inputs[0], _output(path, session)
    dtype = _DTYPES.get(given.type)
    if dtype is None:
        raise CheckpointError(f"{path}: its input {given.name} is {given.type}; expected float, float16 or uint8")
    layout, side = _layout_and_side(path, given.shape, options)
    if side is None:
        side = int((options.preprocessing or {}).get("image_size", 224))
    preprocessing = Preprocessing(image_size=side, resize_side=int(side / _USUAL_CROP))
    _tell(path, preprocessing, options, dtype)

    def run(images: np.ndarray) -> np.ndarray:
        try:
            return session.run([output], {given.name: images})[0]
        except Exception as e:  # onnxruntime's errors have no class of their own that is public
            raise CheckpointError(f"{path}: cannot run on {images.dtype} {images.shape} ({_line(e)})") from e

    batch = given.shape[0]
    model = FunctionModel(
        run,
        preprocessing,
        Path(path).stem,
        input=InputFormat(dtype=dtype, layout=layout),
        batch_size=batch if isinstance(batch, int) and batch > 0 else None,
    )
    facts = {"onnx": model.name, "file": Path(path).name}
    where = {"workdir": str(storage.resolved(path))}
    return finish(model, options, checkpoint, Foreign.ONNX, facts, {**where, "weights_hash": digest})


def _open(path: str) -> tuple[str, Any]:
    """A hash of all of its bytes, and what runs it."""
    try:
        import onnxruntime
    except ImportError as e:
        raise UserError(f"onnx:{path}: needs onnxruntime; {how_to_install('onnx')}") from e
    try:
        content = storage.read_all(path)
    except OSError as e:
        raise CheckpointError(f"{path}: cannot be read ({e.strerror or e})") from e
    digest = hashlib.sha256(content)
    try:
        external = external_files(content)
    except ValueError as e:
        raise CheckpointError(f"{path}: not a file of ONNX ({e})") from e
    if external and storage.is_remote(path):
        raise CheckpointError(f"{path}: its weights are in other files ({external[0]}); copy both to a local folder")
    for name in external:
        beside = Path(path).parent / name
        if not beside.is_file():
            raise CheckpointError(
                f"{path}: its weights are in {name}, which is not beside it; copy that file to {beside.parent} too"
            )
        with beside.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            path if external else content, settings, providers=["CPUExecutionProvider"]
        )
    except Exception as e:  # onnxruntime's errors have no class of their own that is public
        raise CheckpointError(f"{path}: onnxruntime cannot load it ({_line(e)})") from e
    return digest.hexdigest()[:12], session


def _output(path: str, session: Any) -> str:
    """The name of the output that has a row for every image."""
    outputs = session.get_outputs()
    rows = [o for o in outputs if len(o.shape) == 2]
    if not rows:
        shapes = ", ".join(f"{o.name} {o.shape}" for o in outputs)
        raise CheckpointError(f"{path}: none of its outputs has a row for every image ({shapes})")
    if len(rows) > 1:
        say(f"{path}: of its outputs {', '.join(o.name for o in rows)} the first is scored")
    return rows[0].name


def _layout_and_side(path: str, shape: list[Any], options: Options) -> tuple[Layout, int | None]:
    """From the shape of the input, whose free sizes are None or names."""
    fitting = []
    if len(shape) == 4:
        fitting = [
            layout
            for layout, channels in ((Layout.NCHW, shape[1]), (Layout.NHWC, shape[3]))
            if channels == 3 or not isinstance(channels, int)
        ]
        sure = [layout for layout in fitting if 3 in (shape[1] if layout is Layout.NCHW else shape[3],)]
        fitting = sure or fitting
    if not fitting:
        raise CheckpointError(f"{path}: its input is {shape}; expected images [B, 3, H, W] or [B, H, W, 3]")
    if options.layout is not None and options.layout not in fitting:
        raise CheckpointError(f"{path}: {option('layout', options.layout.value)}, but its input is {shape}")
    if len(fitting) > 1 and options.layout is None:
        choices = f"{option('layout', 'nchw')} or {option('layout', 'nhwc')}"
        raise CheckpointError(f"{path}: its input {shape} does not say which axis is colour; say {choices}")
    layout = options.layout or fitting[0]
    height, width = shape[2:4] if layout is Layout.NCHW else shape[1:3]
    sides = {side for side in (height, width) if isinstance(side, int) and side > 0}
    if len(sides) > 1:
        raise CheckpointError(f"{path}: its input is {shape}; the suites feed squares")
    side = next(iter(sides), None)
    asked = (options.preprocessing or {}).get("image_size", side)
    if side is not None and asked != side:
        raise CheckpointError(f"{path}: {option('image_size', asked)}, but its input is {shape}")
    return layout, side


def _tell(path: str, usual: Preprocessing, options: Options, dtype: str) -> None:
    """What is taken, since the file does not say it."""
    fields = ["resize_side", "filter"] + (["mean", "std"] if dtype != "uint8" else [])
    taken = [name for name in fields if name not in (options.preprocessing or {})]
    if taken:
        values = {name: getattr(usual, name) for name in taken}
        text = ", ".join(f"{name} {getattr(value, 'value', value)}" for name, value in values.items())
        say(f"{path}: states no preprocessing; taken as usual: {text} (change with {option(taken[0])}=... and so on)")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]

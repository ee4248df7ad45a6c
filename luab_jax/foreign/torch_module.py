"""`torch:timm/NAME[:FILE]` and `torch:MODULE:FUNCTION`: a module of torch, where torch is installed."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from luab_jax.data.transforms import Preprocessing, ResizeFilter
from luab_jax.errors import CheckpointError, UserError, option
from luab_jax.foreign.finish import finish
from luab_jax.foreign.inputs import InputFormat, Layout
from luab_jax.foreign.model import FunctionModel, drawn_images
from luab_jax.foreign.options import Options
from luab_jax.foreign.python_function import explained, find_function
from luab_jax.io import storage
from luab_jax.io.console import say
from luab_jax.io.pickled import is_pickled
from luab_jax.io.wording import how_to_install
from luab_jax.results.foreign import Foreign

TORCH = "torch:"
_TIMM = "timm/"
_SAFE = ".safetensors"
_HALF = "float16"


def load_torch(checkpoint: str, options: Options) -> FunctionModel:
    """A module that takes normalised images `[B, 3, H, W]` and returns logits, on a GPU if torch has one.

    Raises `UserError` where torch is not installed, `CheckpointError` for weights that do not fit.
    """
    torch_library(checkpoint)
    if checkpoint.startswith(TORCH + _TIMM):
        return _of_timm(checkpoint, options)
    module, maker = find_function(checkpoint, TORCH)
    made = explained(checkpoint, maker)()
    of_two = isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], Preprocessing)
    if not of_two or not hasattr(made[0], "parameters"):
        raise UserError(
            f"{option('checkpoint', checkpoint)}: returned a {type(made).__name__}; expected"
            " (torch.nn.Module, Preprocessing)"
        )
    name = checkpoint.rpartition(":")[2]
    model = module_model(made[0], made[1], name, checkpoint)
    own = {"weights_hash": _state_hash(made[0])}
    if source := getattr(module, "__file__", None):
        own["source_hash"] = hashlib.sha256(Path(source).read_bytes()).hexdigest()[:12]
    return finish(model, options, checkpoint, Foreign.TORCH, {"torch": checkpoint.removeprefix(TORCH)}, own)


def torch_library(checkpoint: str) -> Any:
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError as e:
        raise UserError(f"{option('checkpoint', checkpoint)}: needs torch; {how_to_install('torch')}") from e
    return torch


def module_model(module: Any, preprocessing: Preprocessing, name: str, checkpoint: str) -> FunctionModel:
    """A module as a function of arrays. Products are in float32 where the module is: no TF32."""
    torch = torch_library(checkpoint)
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    first = next(iter(module.parameters()), None)
    half = first is not None and first.dtype == torch.float16
    module = (module if half else module.float()).eval().to(device)

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            outputs = module(torch.from_numpy(images).to(device))
        return logits_of(outputs, checkpoint).float().cpu().numpy()

    as_input = InputFormat(dtype=_HALF if half else "float32", layout=Layout.NCHW)
    model = FunctionModel(explained(checkpoint, run), preprocessing, name, input=as_input)
    return with_activation_maps(model, module, device)


def logits_of(outputs: Any, checkpoint: str) -> Any:
    """The tensor that a module returned, or that of its outputs' field `logits`."""
    logits = getattr(outputs, "logits", outputs)
    if hasattr(logits, "float"):
        return logits
    held = f" of {', '.join(map(str, logits))}" if isinstance(logits, Mapping) else ""
    raise CheckpointError(
        f"{option('checkpoint', checkpoint)}: the module returned a {type(logits).__name__}{held}; expected one tensor"
        " of logits [B, C]: wrap it in a module that returns that alone"
    )


def with_activation_maps(model: FunctionModel, module: Any, device: Any) -> FunctionModel:
    """With class activation maps (Zhou et al. 2016), if the last layer is linear on the mean of the last features.

    Which is tried: on drawn images, the logits must be those of that layer on that mean.
    """
    import torch  # pyright: ignore[reportMissingImports]

    if not hasattr(module, "forward_features") or not hasattr(module, "get_classifier"):
        return model

    def features_of(images: np.ndarray) -> Any:
        with torch.inference_mode():
            return module.forward_features(torch.from_numpy(images).to(device))

    fed = model.feed(drawn_images(model.preprocessing.image_size))
    logits = model.function(fed)  # before its parts are tried: what fails here is told
    try:
        last, features = module.get_classifier(), features_of(fed)
    except Exception:  # methods of these names that are not timm's; the model merely has no map
        return model
    if not isinstance(last, torch.nn.Linear) or not isinstance(features, torch.Tensor) or features.ndim != 4:
        return model
    width = last.in_features
    for axes, order in (((2, 3), (0, 2, 3, 1)), ((1, 2), (0, 1, 2, 3))):
        pooled = features.float().mean(axes)
        if pooled.shape[1] != width:
            continue
        with torch.inference_mode():
            expected = last(pooled.to(last.weight.dtype)).float().cpu().numpy()
        if expected.shape == logits.shape and np.allclose(
            expected, logits, rtol=1e-3, atol=1e-3 * np.abs(logits).max()
        ):
            maps = functools.partial(_maps, features_of, order, last.weight.detach().float().cpu().numpy())
            return dataclasses.replace(model, maps=maps, map_kind="class_activation_map")
    return model


def _maps(
    features_of: Callable[[np.ndarray], Any],
    order: tuple[int, ...],
    weight: np.ndarray,
    images: np.ndarray,
    labels: np.ndarray,
) -> np.ndarray:
    """Features `[b, i, j, f]`, each weighted as the last layer weights its mean for the class."""
    features = features_of(images).float().permute(order).cpu().numpy()
    return np.einsum("bijf,bf->bij", features, weight[labels])


def read_state(path: str, options: Options) -> dict[str, Any]:
    """Weights by name. Pickled ones are read only if the user trusts them."""
    if not path.endswith(_SAFE) and not options.trust:
        _check_pickled(path)
        raise CheckpointError(
            f"{path}: is pickled, and unpickling can run any code that it holds. Convert it where you trust it"
            f" (safetensors.torch.save_file of its state dict), or say {option('trust', True)} if the file is your own"
        )
    import safetensors.torch
    import torch  # pyright: ignore[reportMissingImports]

    if path.endswith(_SAFE):
        try:
            return safetensors.torch.load(storage.read_all(path))
        except OSError as e:
            raise CheckpointError(f"{path}: cannot be read ({e.strerror or e})") from e
        except Exception as e:  # SafetensorError is no public class of every version
            raise CheckpointError(f"{path}: not a file of safetensors ({e})") from e
    try:
        found = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as e:  # whatever the pickle raises
        raise CheckpointError(
            f"{path}: cannot be unpickled ({type(e).__name__}: {' '.join(str(e).split())[:200]})"
        ) from e
    found = found.state_dict() if hasattr(found, "state_dict") else found
    for key in ("state_dict", "model"):
        found = found[key] if isinstance(found, Mapping) and isinstance(found.get(key), Mapping) else found
    if not isinstance(found, Mapping) or not all(isinstance(v, torch.Tensor) for v in found.values()):
        raise CheckpointError(f"{path}: holds a {type(found).__name__}, no weights by name")
    return dict(found)


def _check_pickled(path: str) -> None:
    """Raises `CheckpointError` for what torch.save cannot have written."""
    try:
        start = storage.read_range(path, 0, 4)
    except OSError as e:
        raise CheckpointError(f"{path}: cannot be read ({e.strerror or e})") from e
    if not is_pickled(start):
        raise CheckpointError(f"{path}: no file of weights that is known here; name a {_SAFE} file")


def _of_timm(checkpoint: str, options: Options) -> FunctionModel:
    try:
        import timm  # pyright: ignore[reportMissingImports]
    except ImportError as e:
        raise UserError(f"{option('checkpoint', checkpoint)}: needs timm; {how_to_install('torch')}") from e
    name, _, path = checkpoint.removeprefix(TORCH + _TIMM).partition(":")
    if not timm.is_model(name):
        near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), 3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise UserError(f"{option('checkpoint', checkpoint)}: timm has no model {name!r}{hint}")
    state = read_state(path, options) if path else {}
    try:
        if path:
            head = timm.create_model(name, pretrained=False).pretrained_cfg.get("classifier")
            found = state.get(f"{head}.weight") if isinstance(head, str) else None
            count = {} if found is None else {"num_classes": int(found.shape[0])}
            module = timm.create_model(name, pretrained=False, **count)
            module.load_state_dict(state)
        else:
            module = timm.create_model(name, pretrained=True)
    except Exception as e:  # of a download, or of weights of another network
        said = " ".join(str(e).split())[:300]
        raise CheckpointError(
            f"{option('checkpoint', checkpoint)}: timm cannot load it ({type(e).__name__}: {said})"
        ) from e
    stated = timm.data.resolve_data_config({}, model=module, use_test_size=True)
    model = module_model(module, timm_preprocessing(name, stated), name, checkpoint)
    facts = {"torch": f"timm/{name}"} | ({"file": Path(path).name} if path else {})
    own = {"weights_hash": _state_hash(module)} | ({"workdir": str(storage.resolved(path))} if path else {})
    return finish(model, options, checkpoint, Foreign.TORCH, facts, own)


def timm_preprocessing(name: str, stated: Mapping[str, Any]) -> Preprocessing:
    """What timm's own evaluation does."""
    side = int(stated["input_size"][-1])
    filters = {f.value: f for f in (ResizeFilter.BILINEAR, ResizeFilter.BICUBIC)}
    if stated["interpolation"] not in filters:
        say(f"{name}: resizes by {stated['interpolation']}; bicubic is taken")
    if stated.get("crop_mode", "center") != "center":
        say(f"{name}: crop_mode {stated['crop_mode']}; the short side is resized and the centre cut")
    return Preprocessing(
        image_size=side,
        resize_side=int(side / stated["crop_pct"]),
        filter=filters.get(stated["interpolation"], ResizeFilter.BICUBIC),
        mean=tuple(stated["mean"]),
        std=tuple(stated["std"]),
    )


def _state_hash(module: Any) -> str:
    """Of names and bytes."""
    import torch  # pyright: ignore[reportMissingImports]

    digest = hashlib.sha256()
    for name, values in module.state_dict().items():
        digest.update(name.encode())
        digest.update(values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]

"""`hf:FOLDER`: a folder in Hugging Face's layout (config.json, preprocessor_config.json, safetensors), by transformers.

Nothing of the folder is run: code that it brings along (`auto_map`) is not looked at.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import Path
from typing import Any

from luab_jax.data.class_lists import ClassList, imagenet, readable_names
from luab_jax.errors import CheckpointError, UserError, option
from luab_jax.foreign.finish import finish
from luab_jax.foreign.hf_preprocessor import fields_of, preprocessing_of, read_json
from luab_jax.foreign.model import FunctionModel
from luab_jax.foreign.options import Options
from luab_jax.foreign.torch_module import module_model, torch_library
from luab_jax.io import storage
from luab_jax.io.wording import how_to_install
from luab_jax.results.foreign import Foreign

HF = "hf:"
_SAFE = ".safetensors"
_CLASSIFIERS = {
    "vit": "ViTForImageClassification",
    "deit": "DeiTForImageClassificationWithTeacher",
    "convnext": "ConvNextForImageClassification",
    "convnextv2": "ConvNextV2ForImageClassification",
    "swin": "SwinForImageClassification",
    "swinv2": "Swinv2ForImageClassification",
    "dinov2": "Dinov2ForImageClassification",
    "dinov2_with_registers": "Dinov2WithRegistersForImageClassification",
    "clip": "CLIPForImageClassification",
}
"""Model type to its class with a classifier."""
_OTHER_CLASSIFIERS = ("DeiTForImageClassification",)
_TOWERS = {"clip": "CLIPVisionModelWithProjection", "clip_vision_model": "CLIPVisionModelWithProjection"}
"""Without one: image embeddings, projected to where the text's are."""
_UNUSED = r"position_ids|relative_position_index|mask_token|pooler\.|text_model\.|text_projection\.|logit_scale"
"""Weights of a folder that images do not go through: buffers, of training by masks, of a pooler, of CLIP's texts."""


def load_hf(checkpoint: str, options: Options) -> FunctionModel:
    """Raises `CheckpointError` for a folder that is not of a known type, or whose weights do not fill the network."""
    folder = Path(checkpoint.removeprefix(HF))
    config = read_json(folder / "config.json")
    with fields_of(folder / "config.json"):
        class_name = _class_of(folder, config, with_classifier=options.classifier is None)
    is_tower = class_name in _TOWERS.values()
    _check_weights(folder, config, options)
    with fields_of(folder / "preprocessor_config.json") as path:
        preprocessing = preprocessing_of(path, config)
    with fields_of(folder / "config.json"):
        classes = None if is_tower else _classes(folder, config, options)
    module = _network(checkpoint, folder, class_name)
    model = module_model(_Embeddings(module) if is_tower else module, preprocessing, folder.name, checkpoint)
    if classes is not None:
        options = dataclasses.replace(options, classes=classes)
    facts = {"hf": folder.name, "type": str(config["model_type"])}
    own = {"workdir": str(storage.resolved(folder)), "weights_hash": _hash(folder)}
    return finish(model, options, checkpoint, Foreign.HF, facts, own)


def _network(checkpoint: str, folder: Path, class_name: str) -> Any:
    """As transformers builds it; every weight has its layer, and every layer its weights."""
    torch_library(checkpoint)
    try:
        import transformers  # pyright: ignore[reportMissingImports]
    except ImportError as e:
        raise UserError(f"{option('checkpoint', checkpoint)}: needs transformers; {how_to_install('hf')}") from e
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        module, info = getattr(transformers, class_name).from_pretrained(
            str(folder),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True if any(folder.glob("*.safetensors")) else None,
            output_loading_info=True,
        )
    except Exception as e:  # of a config with an unknown layer, of weights of other shapes
        said = " ".join(str(e).split())[:300]
        raise CheckpointError(
            f"{folder}: transformers cannot build {class_name} of its config.json ({type(e).__name__}: {said})"
        ) from e
    if missing := sorted(info["missing_keys"]):
        raise CheckpointError(
            f"{folder}: its weights lack {len(missing)} of {class_name}'s (first {missing[0]}); is it a backbone"
            " without its classifier?"
        )
    if unknown := sorted(key for key in info["unexpected_keys"] if not re.search(_UNUSED, key)):
        raise CheckpointError(
            f"{folder}: {class_name} has no layer for {len(unknown)} of its weights (first {unknown[0]}); without them"
            " it would be another network"
        )
    return module


class _Embeddings:
    """A tower of CLIP as a module of its image embeddings."""

    def __init__(self, module: Any):
        self._module = module
        self.parameters = module.parameters

    def __call__(self, images: Any) -> Any:
        return self._module(images).image_embeds

    def float(self) -> _Embeddings:
        self._module = self._module.float()
        return self

    def eval(self) -> _Embeddings:
        self._module = self._module.eval()
        return self

    def to(self, device: Any) -> _Embeddings:
        self._module = self._module.to(device)
        return self


def _class_of(folder: Path, config: dict[str, Any], *, with_classifier: bool) -> str:
    """The class of transformers that the folder is read as."""
    kind = config.get("model_type")
    stated = next(iter(config.get("architectures") or []), "")
    if not with_classifier and kind in _TOWERS:
        return _TOWERS[kind]
    if kind in _TOWERS and not str(stated).endswith("ForImageClassification"):
        raise CheckpointError(
            f"{folder}: a tower of CLIP gives image embeddings, no logits; say {option('classifier', 'FILE.npy')}, text"
            " embeddings of the classes"
        )
    if kind not in _CLASSIFIERS:
        known = ", ".join([*_CLASSIFIERS, "clip_vision_model"])
        raise CheckpointError(f"{folder}/config.json: model_type {kind!r} is not read; known are {known}")
    return str(stated) if stated in (*_CLASSIFIERS.values(), *_OTHER_CLASSIFIERS) else _CLASSIFIERS[kind]


def _check_weights(folder: Path, config: dict[str, Any], options: Options) -> None:
    """Raises `CheckpointError` where transformers would read weights that are pickled, or that lie elsewhere."""
    for index in sorted(folder.glob(f"*{_SAFE}.index.json")):
        with fields_of(index):
            named = list(read_json(index)["weight_map"].values())
        if not all(isinstance(name, str) and _is_plain(name) for name in named):
            raise CheckpointError(
                f"{index}: weight_map names files that are no *.safetensors of this folder; take a whole copy of the"
                " folder"
            )
    if config.get("transformers_weights") is not None:  # a file that transformers would read before any other
        raise CheckpointError(
            f"{folder}/config.json: transformers_weights is not read; take the field out, and call the weights"
            " model.safetensors"
        )
    if any(folder.glob("*.safetensors")):
        return
    pickled = sorted(folder.glob("*.bin"))
    if not pickled:
        raise CheckpointError(f"{folder}: holds no weights (*.safetensors)")
    if not options.trust:
        raise CheckpointError(
            f"{pickled[0]}: is pickled, and unpickling can run any code that it holds; take the folder's"
            f" model.safetensors, or say {option('trust', True)} if the file is your own"
        )


def _is_plain(name: str) -> bool:
    """Whether it can only be a file of safetensors beside the index."""
    return name.endswith(_SAFE) and not set(name) & set("/\\:")


def _classes(folder: Path, config: dict[str, Any], options: Options) -> ClassList | None:
    """Of `id2label`, if it has wnids; None for names in ImageNet's order, or that say nothing (LABEL_0).

    Raises `CheckpointError` for ImageNet's names in another order, and for 1,000 names of something else.
    """
    if options.classes is not None:
        return None
    labels = {int(number): str(name) for number, name in (config.get("id2label") or {}).items()}
    names = [labels[number] for number in sorted(labels)]
    whole = imagenet()
    if names and set(names) <= set(whole.ids):
        return ClassList(tuple(names), tuple(names))
    if len(names) != len(whole):
        return None
    if all(_says_nothing(name, number) for number, name in enumerate(names)):
        return None
    first, ours = [_first(name) for name in names], [_first(name) for name in readable_names(whole)]
    known = sum(name in set(ours) for name in first)
    same = sum(a == b for a, b in zip(first, ours, strict=True))
    if known <= len(whole) / 2:
        raise CheckpointError(
            f"{folder}/config.json: id2label has {len(names):,} names, of which {known:,} are ImageNet's (the first is"
            f" {names[0][:40]!r}); {option('classes', 'FILE')} says the wnid or id of each output"
        )
    if same < 0.9 * known:
        raise CheckpointError(
            f"{folder}/config.json: id2label has ImageNet's classes in another order ({same} of {known} known names"
            f" stand where their wnid does); {option('classes', 'FILE')} says the wnid of each output"
        )
    return None


def _says_nothing(name: str, number: int) -> bool:
    """`LABEL_7` or `7` of output 7. Of another output it says that classes are in another order."""
    return re.fullmatch(rf"(LABEL_)?0*{number}", name) is not None


def _first(name: str) -> str:
    return name.split(",")[0].replace("_", " ").strip().lower()


def _hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin"), folder / "config.json"]):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]

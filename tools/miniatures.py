"""Every suite as a miniature of its archive, prepared by data_prep, and what its images are by themselves.

The raw folders are made first: file names, pixels and truths that a test can go through with Pillow and a loop.

    python -m tools.miniatures --out=DIR --timm=resnet50.tv_in1k

writes DIR/resnet50.tv_in1k.safetensors, random weights under timm's names, and DIR/data, images of which that model is
right about some.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import safetensors.numpy
from PIL import Image

from data_prep.__main__ import main as data_prep
from data_prep.datasets.suites import CORRUPTIONS, EXTRA_CORRUPTIONS, SUITES
from data_prep.datasets.val_labels import number_of, read_val_labels
from luab_jax.checkpoints.load import LoadedModel, load
from luab_jax.config import MeshConfig
from luab_jax.data import label_tables
from luab_jax.data.class_lists import imagenet
from luab_jax.data.coco_classes import CATEGORY_IDS
from luab_jax.data.transforms import Preprocessing
from luab_jax.distributed import sharding
from luab_jax.models.config import Dtype, ModelConfig, Stem
from luab_jax.models.functional import BatchStats, Model, Params, create_model
from luab_jax.models.timm_models import timm_model
from luab_jax.models.timm_weights import to_timm

IDS = imagenet().ids
SIDE = 224


def tiny_model() -> LoadedModel:
    """Random weights for ImageNet's 1,000 classes, whose answers depend on the image."""
    config = ModelConfig(name="resnet18", width=4, stage_sizes=(1, 1), stem=Stem.PATCH, compute_dtype=Dtype.FLOAT32)
    model = create_model(config, num_classes=1000, image_size=SIDE, byproduct_shape=None)
    params, batch_stats = random_params(model)
    place = sharding.replicated(sharding.make_mesh(MeshConfig()))
    params, batch_stats = jax.device_put(params, place), jax.device_put(batch_stats, place)
    of_data = {"dataset": "imagenet", "class_list_hash": imagenet().hash}
    of_run = {"workdir": "none", "step": 0, "chosen": "latest", "seed": 0, "experiment": {}, "dtype": "float32"}
    identity = {"model": "tiny", "target": "none", "weight": 0.0, **of_data, **of_run}
    return LoadedModel("tiny", identity, model, params, batch_stats, Preprocessing(), imagenet().hash)


def random_params(model: Model) -> tuple[Params, BatchStats]:
    """Weights by which the answer depends on the image, drawn by numpy: compiling `init` takes longer than all else."""
    rng = np.random.default_rng(0)
    return jax.tree_util.tree_map_with_path(lambda path, leaf: _draw(rng, path, leaf), model.abstract())


def _draw(rng: np.random.Generator, path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.Array:
    kind = path[-1].key
    if kind == "kernel":
        scale = 3 if leaf.ndim == 2 else np.sqrt(2 / np.prod(leaf.shape[:-1]))
        return jax.device_put((scale * rng.normal(size=leaf.shape)).astype(np.float32))
    return jax.device_put(np.full(leaf.shape, 1 if kind in ("scale", "var", "gamma") else 0, np.float32))


def sensible_params(model: Model) -> tuple[Params, BatchStats]:
    """The same for a deep network, whose logits would be so large that every softmax is 1."""
    params, batch_stats = random_params(model)
    rng = np.random.default_rng(1)
    images = np.stack([draw(rng, SIDE, SIDE) for _ in range(8)]).astype(np.float32) / 128 - 1
    logits = np.asarray(model.apply(params, batch_stats, jax.numpy.asarray(images), train=False)[0].logits)
    of_class = logits.mean(axis=0)  # else all images would have the same answer
    scale = 2 / (logits - of_class).std()
    params["classifier"]["kernel"] = params["classifier"]["kernel"] * scale
    params["classifier"]["bias"] = -of_class * scale
    return params, batch_stats


class Raw(NamedTuple):
    """One image as it was downloaded."""

    path: str
    """Below the folder of the archive."""
    pixels: np.ndarray
    """Decoded, as anybody's reader gives them."""


def draw(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Stripes of a colour of its own, with noise: images that a random network tells apart."""
    base, other = rng.integers(0, 256, (2, 3))
    stripes = (np.arange(width) // rng.integers(2, 30) % 2)[None, :, None]
    pixels = np.where(stripes, base, other) + rng.integers(-20, 20, (height, width, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def write(root: Path, path: str, pixels: np.ndarray) -> Raw:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG" if path.endswith(".png") else "JPEG", quality=85)
    file.write_bytes(buffer.getvalue())
    return Raw(path, np.asarray(Image.open(buffer).convert("RGB")))


def prepared_logits(loaded: LoadedModel) -> Callable[[np.ndarray], np.ndarray]:
    """224 x 224 pixels to 1,000 logits, by torchvision's constants."""
    apply = jax.jit(lambda x: loaded.model.apply(loaded.params, loaded.batch_stats, x, train=False)[0].logits)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

    def logits(pixels: np.ndarray) -> np.ndarray:
        assert pixels.shape == (SIDE, SIDE, 3)
        return np.asarray(apply(((pixels / 255 - mean) / std)[None].astype(np.float32)))[0]

    return logits


def resized_and_cropped(pixels: np.ndarray) -> np.ndarray:
    """Short side to 256, the centre 224 x 224 of it: two calls, as Pillow 13 would turn the axes of one."""
    image = Image.fromarray(pixels)
    width, height = image.size
    short = min(width, height)
    size = (int(256 * width / short), int(256 * height / short))
    image = image.resize((size[0], height), Image.Resampling.BICUBIC).resize(size, Image.Resampling.BICUBIC)
    left, top = round((size[0] - SIDE) / 2), round((size[1] - SIDE) / 2)
    return np.asarray(image.crop((left, top, left + SIDE, top + SIDE)))


def prepare_suite(suite: str, source: Path, out: Path, *flags: str) -> None:
    assert data_prep(["suite", suite, f"--source={source}", f"--out={out}", "--workers=1", *flags]) == 0


def prepare_coco(source: Path, out: Path, rng: np.random.Generator) -> None:
    """Ten images, on each two or three squares that are marked as objects, each of its own class."""
    categories, annotations, images = list(CATEGORY_IDS.items()), [], []
    for i in range(1, 11):
        raw = write(source, f"val2014/COCO_val2014_{i:012d}.jpg", draw(rng, 96, 80))
        images.append({"id": i, "file_name": raw.path.split("/")[-1], "width": 96, "height": 80})
        for j in range(2 + i % 2):
            left, top = 30 * j + 2, int(rng.integers(5, 50))
            right, bottom = left + 20, top + 20
            annotations.append({
                "id": len(annotations) + 1, "image_id": i, "category_id": categories[(3 * i + j) % 80][1],
                "bbox": [left, top, 20, 20], "iscrowd": 0,
                "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
            })  # fmt: skip
    named = [{"id": number, "name": name} for name, number in categories]
    file = source / "annotations" / "instances_val2014.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": named}))
    prepare_suite("coco", source, out)


class Miniatures:
    """All suites below `data`, and their raw images by suite and split, each with its 1,000 logits."""

    def __init__(self, root: Path, loaded: LoadedModel):
        self.data = root / "data"
        self.real: dict[int, list[int]] = {}
        self._root = root
        self._rng = np.random.default_rng(0)
        self._val_labels = read_val_labels(None)
        self._logits = prepared_logits(loaded)
        self.images: dict[str, list[tuple[Raw, np.ndarray]]] = {}
        self._val()
        for name in ("imagenet_a", "imagenet_r", "imagenet_o", "imagenet_sketch"):
            self._of_wnids(name)
        self._v2()
        self._c()
        self._objectnet()
        self._si_score()
        self._backgrounds()
        prepare_coco(root / "coco", self.data, self._rng)

    def _prepare(self, suite: str, source: Path, *flags: str) -> None:
        prepare_suite(suite, source, self.data, *flags)

    def _add(
        self,
        key: str,
        source: Path,
        path: Callable[[np.ndarray], str],
        pixels: np.ndarray,
        *,
        border: int = 0,
        stored: bool = False,
    ) -> None:
        """Writes an image where its logits say: folders are chosen so that some answers are right."""
        height, width = pixels.shape[:2]
        seen = pixels[border : height - border, border : width - border]
        raw = write(source, path(self._logits(seen if stored else resized_and_cropped(seen))), pixels)
        seen = raw.pixels[border : height - border, border : width - border]
        self.images.setdefault(key, []).append((raw, self._logits(seen if stored else resized_and_cropped(seen))))

    def _drawn(self, width: int = 60, height: int = 45) -> np.ndarray:
        return draw(self._rng, width, height)

    def _best(self, logits: np.ndarray, among: tuple[int, ...], i: int) -> int:
        """The best of some classes, the second best of them, or any, in turn."""
        order = sorted(among, key=lambda c: -logits[c])
        return order[(0, 1, int(self._rng.integers(len(among))))[i % 3]]

    def _val(self) -> None:
        """Thirty of the 50,000; their numbers give their labels, and a third of the lists of ReaL hold the answer."""
        source = self._root / "ILSVRC2012_img_val"
        real: list[list[int]] = [[] for _ in range(50_000)]
        for i in range(30):
            pixels = self._drawn(60 + i, 50)
            path = functools.partial(self._val_name, right=i % 2 == 0)
            self._add("val", source, path, pixels)
            raw, logits = self.images["val"][-1]
            self.real[self.number(raw)] = ([int(np.argmax(logits)), 7], [], [3, 4])[i % 3]
        for number, labels in self.real.items():
            real[number - 1] = labels
        (self._root / "real.json").write_text(json.dumps(real))
        self._prepare("imagenet", source)
        self._prepare("imagenet_real", source, f"--real={self._root / 'real.json'}")
        boxes = self._root / "localization.txt"
        rows = [f"val/{raw.path},{i},5,{30 + i},40" for i, (raw, _) in enumerate(self.images["val"]) if i % 5]
        boxes.write_text("\n".join(rows))
        self._prepare("imagenet_localisation", source, f"--boxes={boxes}")

    def _val_name(self, logits: np.ndarray, right: bool) -> str:
        """An image whose published label is the answer, or any other."""
        names = (f"ILSVRC2012_val_{number:08d}.JPEG" for number in self._rng.permutation(50_000) + 1)
        wanted = IDS[int(np.argmax(logits))]
        free = (name for name in names if number_of(name) not in self.real)
        return next(name for name in free if not right or self._val_labels.of(name) == wanted)

    def val_label(self, raw: Raw) -> int:
        """The published one."""
        return IDS.index(str(self._val_labels.of(raw.path)))

    def number(self, raw: Raw) -> int:
        number = number_of(raw.path)
        assert number is not None
        return number

    def _of_wnids(self, name: str) -> None:
        source = self._root / name.replace("_", "-")
        among = SUITES[name].subset or tuple(range(1000))
        for i in range(12):
            self._add(name, source, lambda x, i=i: f"{IDS[self._best(x, among, i)]}/{i}.JPEG", self._drawn(70, 50 + i))
        self._prepare(name, source)

    def _v2(self) -> None:
        source = self._root / "v2"
        for variant, split in (("matched-frequency", "matched_frequency"), ("top-images", "top_images")):
            for i in range(9):
                top = f"imagenetv2-{variant}-format-val"
                path = lambda x, i=i, top=top: f"{top}/{self._best(x, tuple(range(1000)), i)}/{i}.jpeg"  # noqa: E731
                self._add(f"imagenet_v2/{split}", source, path, self._drawn())
        self._prepare("imagenet_v2", source)

    def _c(self) -> None:
        source = self._root / "imagenet-c"
        for split, kinds in (("test", CORRUPTIONS), ("extra", EXTRA_CORRUPTIONS)):
            for kind in kinds:
                for severity in range(1, 6):
                    i = int(self._rng.integers(6))
                    path = functools.partial(self._version, at=f"{kind}/{severity}", i=i)
                    self._add(f"imagenet_c/{split}", source, path, self._drawn(SIDE, SIDE), stored=True)
        self._prepare("imagenet_c", source)

    def _version(self, logits: np.ndarray, at: str, i: int) -> str:
        return f"{at}/{IDS[self._best(logits, tuple(range(1000)), i)]}/v.JPEG"

    def _objectnet(self) -> None:
        """The border of two pixels is red, as in the archive, where one is documented."""
        source = self._root / "objectnet"
        folders = list(label_tables.OBJECTNET)
        among = tuple(i for indices in label_tables.OBJECTNET.values() for i in indices)
        folder_of = {i: folder for folder, indices in label_tables.OBJECTNET.items() for i in indices}
        for i in range(15):
            pixels = self._drawn(64, 58)
            pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:] = [(255, 0, 0)] * 4
            name = f"{i}.png"
            path = lambda x, i=i, name=name: f"objectnet-1.0/images/{folder_of[self._best(x, among, i)]}/{name}"  # noqa: E731
            self._add("objectnet", source, path, pixels, border=2)
        assert len(folders) == 113
        self._prepare("objectnet", source)

    def _si_score(self) -> None:
        label_of = {index: label for label, index in label_tables.SI_SCORE.items()}
        for folder, split in (("area", "size"), ("location20_area02_min0pc", "location"), ("rotation", "rotation")):
            for i in range(6):
                path = lambda x, i=i: f"{label_of[self._best(x, tuple(label_of), i)]}/{i}.jpg"  # noqa: E731
                self._add(f"si_score/{split}", self._root / "si" / folder, path, self._drawn(100, 100))
            self._prepare("si_score", self._root / "si" / folder)

    def _backgrounds(self) -> None:
        """Two thirds of the originals have a mask of their foreground."""
        source = self._root / "bg_challenge"
        classes = list(label_tables.IN9)
        for variant in SUITES["backgrounds_challenge"].published:
            for i in range(12):

                def path(logits: np.ndarray, i: int = i, variant: str = variant) -> str:
                    answer = int(np.argmax(logits))
                    of = [c for c, indices in label_tables.IN9.items() if answer in indices]
                    return f"{variant}/val/{of[0] if of and i % 2 else classes[i % 9]}/fg_{i}.JPEG"

                self._add(f"backgrounds/{variant}", source, path, self._drawn(SIDE, SIDE), stored=True)
        for i, (raw, _) in enumerate(self.images["backgrounds/original"]):
            mask = np.zeros((SIDE, SIDE), bool)
            mask[20 + i : 180, 40:200] = True
            file = source / raw.path.replace("original", "fg_mask").replace(".JPEG", ".npy")
            file.parent.mkdir(parents=True, exist_ok=True)
            if i % 3:
                np.save(file, mask)
        self._prepare("backgrounds_challenge", source)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--timm", default="resnet50.tv_in1k", help="a name of timm's")
    arguments = parser.parse_args()
    file = arguments.out / f"{arguments.timm}.safetensors"
    arguments.out.mkdir(parents=True)
    config = ModelConfig(name=timm_model(arguments.timm).preset)
    model = create_model(config, num_classes=1000, image_size=SIDE, byproduct_shape=None)
    safetensors.numpy.save_file(to_timm(model, *sensible_params(model)), file)
    loaded = load(f"timm:{arguments.timm}:{file}", "latest", sharding.make_mesh(MeshConfig()))
    from tools.more_miniatures import FONT, add_more

    add_more(Miniatures(arguments.out, loaded), arguments.out)
    print(f"python -m luab_jax.evaluate --checkpoint=timm:{arguments.timm}:{file} --suites=all"
          f" --font={arguments.out / FONT} --data={arguments.out / 'data'}"
          f" --out={arguments.out / 'results.json'}")  # fmt: skip


if __name__ == "__main__":
    main()

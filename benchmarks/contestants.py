"""The same work by different hands: photos to batches of 224 px random crops, mirrored half of the time.

Each is a generator that yields the number of images in each batch for as long as it is asked, and takes the photos in
turns, so that all of them do the same work. Ours yields uint8 and
leaves the normalisation to the accelerator, as tf.data's users do; the loaders of the PyTorch world yield float32.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from luab_jax.byproducts.records import Size
from luab_jax.byproducts.targets import Target
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.gpu_jpeg import GpuJpegs
from luab_jax.data.pipeline import Augmentation, Reading, train_batches
from luab_jax.data.transforms import EncodedImage, ResizeFilter, crop_and_resize, sample_crop

BATCH, SEED = 32, 0
SIDE = 224
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
Contestant = Callable[[int], Iterator[int]]
"""From the number of threads (or worker processes) to batches."""


def ours(
    split: PreparedSplit, filter: ResizeFilter, *, workers: bool = False, gpu: GpuJpegs | None = None
) -> Contestant:
    """The whole road: TFRecord with its CRC, record, crop, byproduct targets, batch; by threads or worker processes."""

    def run(threads: int) -> Iterator[int]:
        prefetched = 2 * BATCH * threads
        batches = train_batches(
            split,
            augmentation=Augmentation(image_size=SIDE, filter=filter, gpu=gpu),
            target=Target.CLICK_LAST,
            seed=SEED,
            batch_size=BATCH,
            reading=Reading(workers=threads, prefetch_examples=prefetched)
            if workers
            else Reading(num_threads=threads, prefetch_examples=prefetched, on_gpu=gpu is not None),
        )
        with contextlib.closing(batches):
            yield from (len(batch.labels) for batch in batches)

    return run


def pillow_example(photo: Path, rng: np.random.Generator) -> np.ndarray:
    """One image as the official loader makes it: all of it decoded, float32, normalised, channels first."""
    with Image.open(photo) as file:
        image = file.convert("RGB")
    box = sample_crop(rng, Size(*image.size), (0.08, 1.0))
    image = image.crop((box.left, box.top, box.left + box.width, box.top + box.height))
    image = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = np.asarray(image).transpose(2, 0, 1).astype(np.float32) / 255
    return (pixels - MEAN[:, None, None]) / STD[:, None, None]


def pillow(photos: list[Path]) -> Contestant:
    """A bare loop in one thread: the floor of what a loader around Pillow can cost."""

    def run(threads: int) -> Iterator[int]:
        rng = np.random.default_rng(0)
        turns = itertools.cycle(photos)
        while True:
            yield len(np.stack([pillow_example(next(turns), rng) for _ in range(BATCH)]))

    return run


def ours_alone(photos: list[Path], filter: ResizeFilter) -> Contestant:
    """The same bare loop around this package's transforms."""

    def run(threads: int) -> Iterator[int]:
        rng = np.random.default_rng(0)
        turns = itertools.cycle(photos)

        def example(photo: Path) -> np.ndarray:
            image = EncodedImage(photo.read_bytes(), photo.name)
            box = sample_crop(rng, image.size, (0.08, 1.0))
            return crop_and_resize(image, box, SIDE, filter, flip=bool(rng.random() < 0.5))[0]

        while True:
            yield len(np.stack([example(next(turns)) for _ in range(BATCH)]))

    return run


class TorchPhotos:
    """A map-style data set, picklable for worker processes."""

    def __init__(self, photos: list[Path]):
        from torchvision import transforms  # pyright: ignore[reportMissingImports]

        self._photos = photos
        self._transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(SIDE, interpolation=transforms.InterpolationMode.BICUBIC),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN.tolist(), STD.tolist()),
            ]
        )

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, index: int) -> tuple[Any, int]:
        with Image.open(self._photos[index % len(self._photos)]) as image:
            return self._transform(image.convert("RGB")), 0


def torch_loader(photos: list[Path]) -> Contestant:
    """torchvision's transforms in a DataLoader; in this process for one core, in worker processes for more."""
    import torch  # pyright: ignore[reportMissingImports]
    from torch.utils.data import DataLoader  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(1)

    def run(threads: int) -> Iterator[int]:
        workers = threads if threads > 1 else 0
        start = "spawn" if workers else None  # to fork beside the threads of the others would deadlock
        loader = DataLoader(
            TorchPhotos(photos),  # type: ignore[arg-type]
            BATCH,
            num_workers=workers,
            multiprocessing_context=start,
        )
        for images, _ in loader:
            yield len(images)

    return run


def tf_data(photos: list[Path], *, antialias: bool) -> Contestant:
    """Crop-only decoding in a tf.data graph, by TensorFlow's own crop law, which is the same."""
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")

    def example(path: Any) -> Any:
        encoded = tf.io.read_file(path)
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.image.extract_jpeg_shape(encoded),
            tf.zeros([0, 0, 4]),
            area_range=(0.08, 1.0),
            aspect_ratio_range=(3 / 4, 4 / 3),
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.stack([begin[0], begin[1], size[0], size[1]])
        image = tf.image.decode_and_crop_jpeg(encoded, window, channels=3)
        method = "bicubic" if antialias else "bilinear"
        image = tf.image.resize(image, [SIDE, SIDE], method=method, antialias=antialias)
        image = tf.image.random_flip_left_right(tf.clip_by_value(image, 0, 255))
        return tf.cast(image, tf.uint8)

    def run(threads: int) -> Iterator[int]:
        options = tf.data.Options()
        options.threading.private_threadpool_size = threads
        options.threading.max_intra_op_parallelism = 1
        names = tf.data.Dataset.from_tensor_slices([str(photo) for photo in photos]).repeat()
        batches = names.map(example, num_parallel_calls=threads).batch(BATCH)
        return (len(batch) for batch in batches.with_options(options).as_numpy_iterator())

    return run


def contestants(photos: list[Path], split: PreparedSplit) -> dict[str, Contestant]:
    """All that can run here, the reference first; a line for each that cannot."""
    all_of_them: dict[str, Contestant] = {"PIL, as the official loader, bare loop": pillow(photos)}
    if importlib.util.find_spec("torch") and importlib.util.find_spec("torchvision"):
        all_of_them["torch DataLoader + torchvision on PIL"] = torch_loader(photos)
    else:
        print("torch DataLoader: skipped, torch and torchvision are not installed")
    if importlib.util.find_spec("tensorflow"):
        all_of_them["tf.data, bicubic antialiased"] = tf_data(photos, antialias=True)
        all_of_them["tf.data, plain bilinear"] = tf_data(photos, antialias=False)
    else:
        print("tf.data: skipped, tensorflow is not installed")
    all_of_them["ours, bicubic, bare loop"] = ours_alone(photos, ResizeFilter.BICUBIC)
    all_of_them["ours, bilinear_plain, bare loop"] = ours_alone(photos, ResizeFilter.BILINEAR_PLAIN)
    all_of_them["ours, bicubic: PIL's pixels"] = ours(split, ResizeFilter.BICUBIC)
    all_of_them["ours, bilinear_plain: the fast mode"] = ours(split, ResizeFilter.BILINEAR_PLAIN)
    return all_of_them

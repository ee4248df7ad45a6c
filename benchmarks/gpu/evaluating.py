"""Evaluation of ResNet-50 and ViT-B on full-resolution photos: the whole beside reading alone and predict alone.

    python -m benchmarks.gpu.evaluating --photos=DIR --out=DIR

As `benchmarks.evaluation`, in bf16 and for the device at hand. Bounded by decoding where the whole is no slower than
reading.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks import evaluation
from benchmarks import photos as measured
from benchmarks.gpu.jax_results import jax_results
from benchmarks.gpu.models import toy
from benchmarks.gpu.record import Results, parser
from luab_jax.data.pipeline import num_cores
from luab_jax.models.config import ModelConfig

MODELS = ("resnet50", "vit_b")


def measure(photos: Path, results: Results, *, rehearse: bool) -> None:
    num_images, batch_size = (48, 16) if rehearse else (4096, 256)
    with tempfile.TemporaryDirectory() as folder:
        split, classes = evaluation.prepare(measured.list_photos(photos), num_images, Path(folder))
        for model in MODELS:
            config = ModelConfig(name=model)
            try:
                loaded = evaluation.load(model, toy(config) if rehearse else config, classes)
                rates = evaluation.measure(loaded, split, batch_size, 1 if rehearse else 2, Path(folder))
            except Exception as e:  # the other model may do
                results.failed(model, e)
                continue
            reading, predict, whole = rates
            results.add(
                model,
                model=model,
                images=num_images,
                batch=batch_size,
                cores=num_cores(),
                reading=reading,
                predict=predict,
                whole=whole,
                bounded_by="reading" if reading < predict else "the model",
            )


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--photos", type=Path, default=measured.PHOTOS, help="folder of <class>/<name>.JPEG")
    arguments = options.parse_args()
    measure(arguments.photos, jax_results(arguments.out, "evaluation"), rehearse=arguments.rehearse)


if __name__ == "__main__":
    main()

"""The logits of a timm file through our whole path are those of timm's own preprocessing and model, on photos."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="parity needs torch")
timm = pytest.importorskip("timm", reason="parity needs timm")

from benchmarks.parity import randomise  # noqa: E402
from data_prep.__main__ import main as data_prep  # noqa: E402
from luab_jax.checkpoints.load import load  # noqa: E402
from luab_jax.config import MeshConfig  # noqa: E402
from luab_jax.data.dataset import open_split  # noqa: E402
from luab_jax.data.features import Example  # noqa: E402
from luab_jax.data.pipeline import Reading  # noqa: E402
from luab_jax.distributed import sharding  # noqa: E402
from luab_jax.evaluation.predictor import Predictor  # noqa: E402
from luab_jax.evaluation.suite import View  # noqa: E402
from luab_jax.models.timm_models import TimmSize  # noqa: E402
from tests.data_prep.conftest import SHARED_DATA  # noqa: E402

PHOTOS = SHARED_DATA / "imagenet_fullres"
NUM_PHOTOS = 16


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not PHOTOS.is_dir():
        pytest.skip(f"no photos at {PHOTOS}")
    root = tmp_path_factory.mktemp("photos")
    for path in sorted(PHOTOS.glob("*/*.*"))[:NUM_PHOTOS]:
        (root / "raw" / path.parent.name).mkdir(parents=True, exist_ok=True)
        (root / "raw" / path.parent.name / path.name).write_bytes(path.read_bytes())
    arguments = ["suite", "imagenet_sketch", f"--source={root / 'raw'}", f"--out={root}", "--workers=1"]
    assert data_prep(arguments) == 0
    return root / "imagenet_sketch"


@pytest.mark.parametrize("size", list(TimmSize))
@pytest.mark.parametrize("name", ["resnet18.tv_in1k", "resnet18.a1_in1k", "deit_tiny_patch16_224.fb_in1k"])
def test_logits_are_timms(name: str, size: TimmSize, photos: Path, tmp_path: Path) -> None:
    """At the size that timm's validate.py takes, and at that of the training."""
    import safetensors.torch

    torch.manual_seed(0)
    theirs = timm.create_model(name, pretrained=False).eval()
    randomise(theirs)
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "w.safetensors")
    mesh = sharding.make_mesh(MeshConfig())
    loaded = load(f"timm:{name}:{tmp_path / 'w.safetensors'}", "latest", mesh, timm_size=size)
    split = open_split(photos, "test")
    ours = Predictor(loaded, mesh, NUM_PHOTOS, Reading(num_threads=2))(split, [View.PLAIN])[View.PLAIN].logits

    config = timm.data.resolve_data_config({}, model=theirs, use_test_size=size is TimmSize.TEST)
    transform = timm.data.create_transform(**config, is_training=False)
    images = [Image.open(io.BytesIO(Example(split.records[i]).image)).convert("RGB") for i in range(len(split.records))]
    with torch.no_grad():
        expected = theirs(torch.stack([transform(image) for image in images])).numpy()
    difference = float(np.abs(ours - expected).max() / np.abs(expected).max())
    print(f"{name}: {len(images)} photos, largest difference {difference:.1e} of the largest logit")
    assert difference < 1e-4

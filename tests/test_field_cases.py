"""Cases 10 and 11 of field_cases/MANIFEST.md: LUAB on data without byproducts, and configs as people have them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from data_prep.__main__ import main as data_prep
from luab_jax.byproducts.targets import Target
from luab_jax.config.flags import load_config
from luab_jax.errors import DataError, ExitCode, UserError
from luab_jax.training.loop import train

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDER = Path(os.environ.get("LUAB_JAX_TEST_DATA", REPOSITORY.parent / "shared/data")) / "field_cases"
CONFIGS = FOLDER / "11_config_cli"
DEMO = str(REPOSITORY / "configs/demo.py")

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the field cases are not here")

OBSERVED = {
    str(CONFIGS / "req.py"): "its get_config needs an argument",
    str(CONFIGS / "req.py:foo"): None,
    str(CONFIGS / "syntax.py"): "syntax.py, line 1: invalid syntax",
    str(CONFIGS): "a folder; name a Python file with a get_config; it holds req.py, syntax.py, tiny.py",
    "--config.nosuch=3": "the config has no field 'nosuch'",
    "--config.model.stage_sizes=None": None,
    "--config.model.stage_sizes=1.5,1": "expected one or more whole numbers",
    "--config.model.stage_sizes=(1,'a')": "expected one or more whole numbers",
    "--config.data.preprocessing.mean=(0.5,None,0.5)": "expected 3 numbers",
    "--config.data.preprocessing.mean=(127.5,127.5,127.5)": "must be three numbers on [0, 1]: R, G, B; divide levels",
    "--config.data.preprocessing.resize_side=None": None,
}


@pytest.mark.parametrize("given", OBSERVED)
def test_configs_of_case_11(given: str) -> None:
    def read() -> None:
        config = load_config(DEMO, [given]) if given.startswith("--") else load_config(given)
        config.validate()

    told = OBSERVED[given]
    if told is None:
        read()
        return
    with pytest.raises(UserError) as error:
        read()
    assert told in str(error.value) and "\n" not in str(error.value)


def test_photos_of_case_10(tmp_path: Path) -> None:
    photos, data = FOLDER / "10_luab_without_byproducts/photos", tmp_path / "D"
    for split in ("train", "val"):
        data_prep(["folder", f"--source={photos}", f"--split={split}", f"--out={data}"])
    config = load_config(str(FOLDER / "10_luab_without_byproducts/tiny.py"), [f"--config.data.root={data}"])
    with pytest.raises(DataError, match="none of the 8 records of the split 'train' has a click_last"):
        train(config, tmp_path / "RUN")
    config.byproduct.target = Target.NONE
    assert train(config, tmp_path / "RUN") is ExitCode.DONE

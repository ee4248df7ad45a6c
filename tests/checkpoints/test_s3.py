"""Which buckets a workdir may be in, and what is said of the others before anything is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from luab_jax.checkpoints import s3
from luab_jax.config import Config, DataConfig
from luab_jax.errors import ExitCode, StorageError
from luab_jax.evaluate import main as evaluate
from luab_jax.training.loop import train
from tests import tiny


@pytest.mark.parametrize("workdir", ["az://b/run", "hf://datasets/me/run"])
def test_a_workdir_where_no_array_can_be_is_refused_before_data_is_opened(workdir: str) -> None:
    config = Config(data=DataConfig(root="/nowhere"))
    with pytest.raises(StorageError, match=f"{workdir}: checkpoints cannot be in .*choose a workdir in gs:// or s3://"):
        train(config, workdir)


def test_a_checkpoint_there_is_refused_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--checkpoint=az://b/run", "--suites=imagenet", f"--data={tmp_path}", f"--out={tmp_path / 'r.json'}"]
    assert evaluate(flags) == ExitCode.FAILED
    error = capsys.readouterr().err
    assert error.startswith("error: az://b/run: checkpoints cannot be in az://") and error.count("\n") == 1


def test_s3_is_refused_where_orbax_cannot_be_told_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    s3.check_arrays("s3://bucket/run")
    monkeypatch.setattr(s3, "SERVED", False)
    with pytest.raises(StorageError, match="choose a workdir in gs://, or a folder"):
        s3.check_arrays("s3://bucket/run")


@pytest.mark.parametrize(
    "workdir",
    [
        *("gs://b/run", "gs:///run", "gs://Bucket/run"),
        *("s3:///run", "s3://my bucket/run", "s3://bucket-", "s3://192.168.1.1/run", "s3://xn--abc/run"),
    ],
)
def test_a_name_that_no_bucket_has_is_refused_before_the_first_save(workdir: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be the name of a bucket"):
        train(tiny.experiment(tmp_path / "data is not looked at"), workdir)


@pytest.mark.parametrize("workdir", ["gs://bucket/lr[12]", "s3://bucket/run*"])
def test_a_workdir_whose_name_is_a_pattern_is_refused_before_data_is_opened(workdir: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is read as part of a pattern"):
        train(tiny.experiment(tmp_path / "data is not looked at"), workdir)


@pytest.mark.parametrize("flag", ["--out=gs://b/r[1].json", "--predictions=gs://b/p*"])
def test_results_whose_name_is_a_pattern_are_refused_before_the_checkpoint_is_opened(
    flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--checkpoint=is not looked at", "--suites=imagenet", f"--data={tmp_path}", f"--out={tmp_path / 'r.json'}"]
    assert evaluate([*flags, flag]) == ExitCode.FAILED
    error = capsys.readouterr().err
    assert error.startswith(f"error: {flag.partition('=')[2]}: ") and "part of a pattern" in error


@pytest.mark.parametrize("workdir", ["gs://a_b/run", "gs://192.168.1.1/run", "s3://a_b/run", "s3://Old_Bucket/run"])
def test_what_is_a_name_in_one_store_is_asked_of_that_store(workdir: str) -> None:
    """Amazon's first region has buckets with names that are no longer given."""
    s3.check_arrays(workdir)


def test_another_store_than_amazons_is_found_by_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert s3._of_s3("s3://b/run/1") == {
        "driver": "s3",
        "bucket": "b",
        "path": "run/1",
        "endpoint": "http://127.0.0.1:9000",
        "aws_region": "eu-west-1",
    }

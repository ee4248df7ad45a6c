"""Orbax on S3, and a clear refusal of the buckets that it cannot reach.

Orbax hands arrays of `gs://` to tensorstore's driver of Cloud Storage and takes every other path for a local one,
though tensorstore has a driver of S3 as well. What Orbax asks about a path of Cloud Storage (may it be renamed? which
driver?) has the same answer for S3, so here S3 is told to it as such. The functions are Orbax's own and not promised to
stay: `SERVED` says whether they are what they were, and without them a workdir on S3 is refused before any data is
opened.
"""

from __future__ import annotations

import os
from typing import Any

import tensorstore as ts
from etils import epath
from orbax.checkpoint._src.path import gcs_utils
from orbax.checkpoint._src.serialization import tensorstore_utils

from luab_jax.errors import StorageError

_SCHEMES = {"gs": "gcs", "s3": "s3"}
"""Those whose arrays tensorstore reads and writes, and its name of each."""
_NAMES = {
    gcs_utils: ("_GCS_PATH_PREFIX", "get_kvstore_for_gcs"),
    tensorstore_utils: ("_normalize_path", "_use_gcs_driver"),
}


def check_arrays(workdir: epath.PathLike) -> None:
    """Raises `StorageError` for a bucket in which no checkpoint can be read or written."""
    scheme, found, inner = os.fspath(workdir).partition("://")
    if found and (scheme not in _SCHEMES or (scheme == "s3" and not SERVED)):
        others = " or ".join(f"{name}://" for name in _SCHEMES if name != "s3" or SERVED)
        raise StorageError(
            f"{os.fspath(workdir)}: checkpoints cannot be in {scheme}://, whose arrays tensorstore does not reach;"
            f" choose a workdir in {others}, or a folder. Data may be read from there"
        )
    bucket = inner.partition("/")[0]
    if found and not _may_be(bucket, _SCHEMES[scheme]):
        raise StorageError(
            f"{os.fspath(workdir)}: {bucket!r} cannot be the name of a bucket there; most names are of at least three"
            " lower-case letters, digits or . -, the first and the last a letter or a digit"
        )


def _may_be(bucket: str, driver: str) -> bool:
    """By tensorstore's own rules of each store, which it would apply at the first save; no bucket is asked."""
    try:
        ts.KvStore.Spec({"driver": driver, "bucket": bucket})
    except ValueError:
        return False
    return True


def _teach() -> bool:
    """Whether Orbax could be told; called once, as this module is imported."""
    if any(not hasattr(module, name) for module, names in _NAMES.items() for name in names):
        return False
    of_gcs, normalised, uses_gcs = (
        gcs_utils.get_kvstore_for_gcs,
        tensorstore_utils._normalize_path,
        tensorstore_utils._use_gcs_driver,
    )

    def kvstore(path: str) -> dict[str, Any]:
        return _of_s3(path) if path.startswith("s3://") else of_gcs(path)

    def normalize_path(path: str) -> str:
        return "s3://" + os.path.normpath(path.removeprefix("s3://")) if path.startswith("s3://") else normalised(path)

    def use_driver(path: str) -> bool:
        return path.startswith("s3://") or uses_gcs(path)

    gcs_utils._GCS_PATH_PREFIX = (*gcs_utils._GCS_PATH_PREFIX, "s3://")
    gcs_utils.get_kvstore_for_gcs = kvstore
    tensorstore_utils._normalize_path = normalize_path
    tensorstore_utils._use_gcs_driver = use_driver
    return True


def _of_s3(path: str) -> dict[str, Any]:
    """As tensorstore wants it; it reads neither the variable of an endpoint nor that of a region."""
    bucket, _, inner = path.removeprefix("s3://").partition("/")
    spec: dict[str, Any] = {"driver": "s3", "bucket": bucket, "path": inner}
    if os.environ.get("AWS_ACCESS_KEY_ID"):  # or it complains of files of credentials that are not there
        spec["aws_credentials"] = {"type": "environment"}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        spec["endpoint"] = endpoint
        spec["aws_region"] = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return spec


SERVED = _teach()

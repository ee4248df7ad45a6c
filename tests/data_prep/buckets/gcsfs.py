"""Found instead of gcsfs by the tests of buckets: `gs://` on fsspec's local file system, in any process.

A bucket is a folder of LUAB_JAX_TEST_BUCKETS. Objects may lie in folders that nobody made, as in a bucket, and a name
in LUAB_JAX_TEST_BUCKETS_CLOSED cannot be reached, as without permission.
"""

from __future__ import annotations

import os

from fsspec.implementations.local import LocalFileSystem


class HttpError(Exception):
    """As gcsfs's: no `OSError`, with the status in `code`."""

    code = 403


class GCSFileSystem(LocalFileSystem):
    protocol = ("gs", "gcs")

    def __init__(self, **options: object):
        super().__init__(auto_mkdir=True, **options)

    @classmethod
    def _strip_protocol(cls, path: object) -> str:
        text = os.fspath(path)  # type: ignore[call-overload]
        inner = text.removeprefix("gs://").removeprefix("gcs://")
        if inner != text:
            text = os.path.join(os.environ["LUAB_JAX_TEST_BUCKETS"], inner)
        return super()._strip_protocol(text)

    def cat_file(self, path: str, *arguments: object, **options: object) -> bytes | str:
        _refuse_closed(path)
        return super().cat_file(path, *arguments, **options)

    def put_file(self, path1: str, path2: str, **options: object) -> None:
        _refuse_closed(path2)
        super().put_file(path1, path2, **options)


def _refuse_closed(path: str) -> None:
    if any(path.endswith(f"/{name}") for name in os.environ.get("LUAB_JAX_TEST_BUCKETS_CLOSED", "").split()):
        raise HttpError("Anonymous caller does not have storage.objects.get access")

"""Programs for maintainers that the documents name. A package that is missing is told in one line, with its extra."""

from __future__ import annotations

import sys
from types import TracebackType

_EXTRA_OF = {
    **dict.fromkeys(("timm", "torch"), "torch"),
    "transformers": "hf",
    "argon2": "collect",
    "itsdangerous": "collect",
    "psycopg": "collect",
    "starlette": "collect",
    "uvicorn": "collect",
    **dict.fromkeys(("flask", "gcsfs", "httpx", "hypothesis", "moto", "onnx", "onnxruntime"), "test"),
    **dict.fromkeys(("playwright", "pytest", "s3fs", "sklearn", "tensorboardX", "werkzeug"), "test"),
}
"""By the name that is imported."""


def what_is_missing(error: BaseException) -> str | None:
    """`error: needs the package sklearn: pip install '.[test]'`; None for any error but that of a missing extra."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return None
    package = error.name.partition(".")[0]
    extra = _EXTRA_OF.get(package)
    return extra and f"error: needs the package {package}: pip install '.[{extra}]'"


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    told = what_is_missing(error)
    if told is None:
        sys.__excepthook__(kind, error, trace)
    else:
        print(told, file=sys.stderr)


if sys.argv[0] == "-m":  # as long as Python looks for the module that it was started with
    sys.excepthook = _tell

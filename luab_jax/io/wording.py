"""Words that messages share."""

from __future__ import annotations

from collections.abc import Sequence

EXTRAS = {
    "collect": ("argon2-cffi", "itsdangerous", "jinja2", "psycopg[binary]", "starlette", "uvicorn[standard]"),
    "cuda13": ("jax[cuda13]",),
    "hf": ("torch", "transformers"),
    "onnx": ("onnxruntime",),
    "preflight": ("libtpu",),
    "torch": ("timm", "torch"),
}
"""The extras of setup.cfg that a message may ask for, with their packages."""


def counted(number: int | float, noun: str) -> str:
    """`1 step`, `2,000 steps`."""
    return f"{number:,.0f} {noun}{'' if number == 1 else 's'}"


def joined(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([*filter(None, [", ".join(names[:-1])]), *names[-1:]])


def how_to_install(extra: str) -> str:
    """By the extra in a clone, or by name: this package is on no index."""
    packages = " ".join(f"'{package}'" if "[" in package else package for package in EXTRAS[extra])
    return f"pip install '.[{extra}]' (in a clone), or pip install {packages}"

"""Types of command-line arguments: from a text to a value, or `ArgumentTypeError` that says what is expected."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def quality(text: str) -> int:
    """Of a JPEG."""
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 100")
    return int(text)


def num_bytes(text: str) -> int:
    """`1000`, `20M`, `1.5G`, `2T`."""
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    try:
        value = float(number) * 1024 ** ("", "K", "M", "G", "T").index(unit)
    except ValueError:
        value = 0
    if not 1 <= value < 1 << 60:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of bytes such as 500G")
    return int(value)


def share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def columns(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def condition(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not COLUMN=VALUE")
    return name, value


def split_name(text: str) -> str:
    if not text.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r}: letters, digits and _ only")
    return text

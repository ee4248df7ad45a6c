"""Damage to valid input, drawn from a `random.Random`: to bytes, to numbers in text, to trees of JSON and XML.

All chance comes from the generator that is passed in, so that a seed replays an input, and Hypothesis, which can stand
in for the generator, shrinks one.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any
from xml.etree import ElementTree

Mutation = Callable[[bytes, Random], bytes]

MAX_BYTES = 1 << 20
"""Of an input; what larger ones would find is a matter of time and memory alone."""
_NUMBER = re.compile(rb"-?\d+(\.\d+)?")
ODD_NUMBERS = (
    *(b"nan", b"NaN", b"inf", b"-Infinity", b"1e999", b"-1e308", b"1e-320", b"-0", b"0x10", b"1_000", b"0,5", b"1.5.2"),
    *(b"-1", b"9223372036854775808", b"18446744073709551616", b"9" * 400, b"9" * 5000, b"", b" 1 ", b"\xd9\xa3"),
)
ODD_VALUES = (
    *(None, True, False, 0, -1, 1.5, 2**63, -(2**63) - 1, 10**400, float("nan"), float("inf"), -1e308),
    *(
        "",
        "None",
        "nan",
        "0.5",
        "\ud800",
        "\x00",
        "a" * 3000,
        "é猫",
        "../../etc/passwd",
        [],
        {},
        [[]],
        [None],
        {"x": 1},
    ),
)
_ENCODINGS = ("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "cp037", "utf-7")
_DEPTHS = (3, 100, 990, 3000, 50_000)


def flip(data: bytes, rng: Random) -> bytes:
    """Other values for a few bytes."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if out:
            out[rng.randrange(len(out))] = rng.choice((rng.randrange(256), 0, 0xFF, 0x80))
    return bytes(out)


def cut_off(data: bytes, rng: Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _span(data: bytes, rng: Random) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.choice((1, 4, 16, 64, 512)))


def take_out(data: bytes, rng: Random) -> bytes:
    start, end = _span(data, rng)
    return data[:start] + data[end:]


def repeat(data: bytes, rng: Random) -> bytes:
    """A stretch a few times or thousands of times."""
    start, end = _span(data, rng)
    return data[:end] + data[start:end] * rng.choice((1, 2, 10, 1000)) + data[end:]


def long_run(data: bytes, rng: Random) -> bytes:
    """Many times the same byte."""
    at = rng.randrange(len(data) + 1)
    return data[:at] + bytes([rng.choice(b"\0 <[{\"'9a\xff\n,")]) * rng.choice((100, 5000, 100_000)) + data[at:]


def odd_number(data: bytes, rng: Random) -> bytes:
    """Another number, or none, for one of those in a text."""
    found = list(_NUMBER.finditer(data))
    if not found:
        return flip(data, rng)
    start, end = rng.choice(found).span()
    return data[:start] + rng.choice(ODD_NUMBERS) + data[end:]


def encode_anew(data: bytes, rng: Random) -> bytes:
    """The text in another encoding, whatever it says of itself."""
    return data.decode("utf-8", "replace").encode(rng.choice(_ENCODINGS), "replace")


def splice_with(others: Sequence[bytes]) -> Mutation:
    """The beginning of this and the end of another."""

    def splice(data: bytes, rng: Random) -> bytes:
        other = rng.choice(others)
        return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]

    return splice


def insert_one_of(tokens: Sequence[bytes]) -> Mutation:
    """A token of the format at any place."""

    def insert(data: bytes, rng: Random) -> bytes:
        at = rng.randrange(len(data) + 1)
        return data[:at] + rng.choice(tokens) + data[at:]

    return insert


def of_bytes(seeds: Sequence[bytes]) -> tuple[Mutation, ...]:
    return (flip, cut_off, take_out, repeat, long_run, splice_with(seeds))


def of_text(seeds: Sequence[bytes], tokens: Sequence[bytes]) -> tuple[Mutation, ...]:
    return (*of_bytes(seeds), odd_number, encode_anew, insert_one_of(tokens))


def mutated(seeds: Sequence[bytes], mutations: Sequence[Mutation], rng: Random) -> bytes:
    """A valid input with one damage, often a second and a third."""
    data = rng.choice(seeds)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if len(data) > MAX_BYTES // 10:
            break
        try:
            data = rng.choice(mutations)(data, rng)
        except RecursionError:  # nested too deeply for another damage by the same library
            break
    return data[:MAX_BYTES]


def odd_json(data: bytes, rng: Random) -> bytes:
    """Valid JSON of another shape: a value replaced, dropped, repeated, wrapped or under another name."""
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return flip(data, rng)
    holder, key = _json_place(tree, rng)
    if holder is None:
        return _json_text(rng.choice(ODD_VALUES))
    match rng.randrange(5):
        case 0:
            del holder[key]
        case 1:
            holder[key] = [holder[key]] * rng.choice((0, 1, 2, 500))
        case 2 if isinstance(holder, dict):
            holder[rng.choice((*holder, "x", ""))] = holder.pop(key)
        case 3:
            marker = "wrapped here"
            depth = rng.choice(_DEPTHS)
            inner, holder[key] = holder[key], marker
            opened, closed = rng.choice((("[", "]"), ('{"x":', "}")))
            deep = opened * depth + json.dumps(inner) + closed * depth
            return _json_text(tree).replace(json.dumps(marker).encode(), deep.encode())
        case _:
            holder[key] = copy.deepcopy(rng.choice(ODD_VALUES))
    return _json_text(tree)


def _json_text(tree: Any) -> bytes:
    return json.dumps(tree).encode()


def _json_place(tree: Any, rng: Random) -> tuple[Any, Any]:
    """A list or an object in the tree, and one of its keys; deeper ones are as likely as those above them."""
    holder, key, node = None, None, tree
    while isinstance(node, dict | list) and node and (holder is None or rng.random() < 0.7):
        holder = node
        key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
        node = holder[key]
    return holder, key


def odd_xml(data: bytes, rng: Random) -> bytes:
    """Well-formed XML of another shape: an element dropped, repeated, moved, renamed, wrapped, or with another text."""
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError):
        return flip(data, rng)
    elements = list(root.iter())
    element = rng.choice(elements)
    match rng.randrange(6):
        case 0:
            for child in list(element):
                if rng.random() < 0.5:
                    element.remove(child)
        case 1:
            element.extend(list(element) * rng.choice((1, 2, 50)))
        case 2:
            element.tag = rng.choice([e.tag for e in elements] + ["html", "x", "é"])
        case 3:
            element.set(rng.choice(("x", "time", "xml:lang")), "1")
            element.text = rng.choice(ODD_NUMBERS).decode()
        case 4:
            marker = "wrapped-here"
            element.text, depth = marker, rng.choice(_DEPTHS)
            name = rng.choice(("metadata", "x"))
            deep = f"<{name}>" * depth + f"</{name}>" * depth
            return ElementTree.tostring(root).replace(marker.encode(), deep.encode())
        case _:
            element.text = rng.choice(("None", "true", " True ", "leave", "n01/other", "\t\n", "é猫", "a" * 3000))
    return ElementTree.tostring(root)

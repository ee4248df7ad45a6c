"""An annotator who comes by a link."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from luab_jax.errors import DataError

_ID = re.compile(r"[A-Za-z0-9_\-.:@+]{1,128}", re.ASCII)


class BadLinkError(DataError):
    """The address lacks what the platform adds to it."""


class Arrival(NamedTuple):
    """Who came, and for which assignment of the platform."""

    worker: str
    assignment: str = ""
    hit: str = ""
    params: Mapping[str, str] = {}
    """What the end of the visit needs."""
    preview: bool = False
    """Somebody who only looks."""


def wanted(params: Mapping[str, str], name: str) -> str:
    """An id among the parameters; raises `BadLinkError`."""
    value = params.get(name, "")
    if not _ID.fullmatch(value):
        raise BadLinkError(f"the address has no valid {name}; open the page from the platform again")
    return value


def invited(params: Mapping[str, str]) -> Arrival:
    """By a link of one's own, whose token has said who it is."""
    return Arrival(worker=wanted(params, "invite"))

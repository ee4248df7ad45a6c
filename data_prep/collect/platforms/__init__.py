"""Where annotators come from and where they go back to: one small module for each platform.

Each has `arrive(params)`, which reads the parameters of the link, and `complete(...)`, which says how the page ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from data_prep.collect.config import Config
from data_prep.collect.platforms import arrivals, mturk, prolific
from data_prep.collect.platforms.arrivals import Arrival, BadLinkError
from luab_jax.errors import DataError

__all__ = ["Arrival", "BadLinkError", "Completion", "arrive", "complete", "form_hosts", "frame_hosts", "invitation"]

Completion = dict[str, Any]
"""`completion` of docs/collect-protocol.md §3."""


class Visit(NamedTuple):
    """What is known when a visit ends."""

    id: str
    platform: str
    params: Mapping[str, str]
    code: str


def arrive(platform: str, params: Mapping[str, str]) -> Arrival:
    """Raises `BadLinkError` for parameters that this platform does not send."""
    match platform:
        case "mturk":
            return mturk.arrive(params)
        case "prolific":
            return prolific.arrive(params)
        case _:
            return arrivals.invited(params)


def complete(visit: Visit, config: Config) -> Completion:
    """How the page of a finished visit ends."""
    match visit.platform:
        case "mturk":
            return mturk.complete(visit.id, visit.params, visit.code)
        case "prolific":
            return prolific.complete(config.platform.prolific_code, visit.code)
        case _:
            return {"kind": "none"}


def frame_hosts(platforms: set[str]) -> tuple[str, ...]:
    """Who may show the page in a frame."""
    return mturk.HOSTS if "mturk" in platforms else ()


def form_hosts(platforms: set[str]) -> tuple[str, ...]:
    """Where the page may post a form to."""
    return mturk.HOSTS if "mturk" in platforms else ()


def invitation(platform: str, url: str, token: str) -> str:
    """The link to be put into the platform's form."""
    match platform:
        case "mturk":
            return mturk.link(url, token)
        case "prolific":
            return prolific.link(url, token)
        case _:
            raise DataError(f"{platform}: has one link for each annotator")

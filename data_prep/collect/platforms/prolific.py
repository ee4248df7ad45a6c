"""Prolific: three ids in the address, and a redirect with the study's completion code at the end.

Parameters: Prolific's researcher help, "Using URL parameters" (PROLIFIC_PID, STUDY_ID, SESSION_ID).
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from data_prep.collect.platforms.arrivals import Arrival, wanted

COMPLETE = "https://app.prolific.com/submissions/complete?cc="


def arrive(params: Mapping[str, str]) -> Arrival:
    worker, study, session = (wanted(params, name) for name in ("PROLIFIC_PID", "STUDY_ID", "SESSION_ID"))
    return Arrival(worker, session, study)


def complete(completion_code: str, code: str) -> dict[str, object]:
    """Back to Prolific; a project without the study's code ends with one of its own to be typed in."""
    if completion_code:
        return {"kind": "redirect", "url": COMPLETE + quote(completion_code)}
    return {"kind": "code", "code": code}


def link(url: str, token: str) -> str:
    """The study's URL; Prolific puts the ids in the place of the names in braces."""
    ids = "&".join(f"{name}={{{{%{name}%}}}}" for name in ("PROLIFIC_PID", "STUDY_ID", "SESSION_ID"))
    return f"{url}/?k={quote(token)}&{ids}"

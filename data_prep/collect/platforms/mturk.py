"""Amazon Mechanical Turk: as an ExternalQuestion in the platform's frame, or as a link that ends with a code.

Parameters and the form that ends a task: AWS documentation, "ExternalQuestion" (docs.aws.amazon.com/AWSMechTurk).
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlsplit
from xml.sax.saxutils import escape

from data_prep.collect.platforms.arrivals import Arrival, BadLinkError, wanted

HOSTS = ("https://www.mturk.com", "https://workersandbox.mturk.com", "https://worker.mturk.com")
NOT_ACCEPTED = "ASSIGNMENT_ID_NOT_AVAILABLE"
"""The assignment of a worker who previews the task."""
FRAME_HEIGHT = 900


def arrive(params: Mapping[str, str]) -> Arrival:
    """From assignmentId, hitId, workerId and, in the platform's frame, turkSubmitTo."""
    if params.get("assignmentId") == NOT_ACCEPTED:
        return Arrival(worker="", preview=True)
    submit_to = params.get("turkSubmitTo", "")
    if submit_to and submit_to.rstrip("/") not in HOSTS:
        raise BadLinkError(f"turkSubmitTo={submit_to[:80]}: is no host of MTurk")
    assignment, hit = wanted(params, "assignmentId"), wanted(params, "hitId")
    kept = {"assignmentId": assignment, "turkSubmitTo": submit_to.rstrip("/")}
    return Arrival(wanted(params, "workerId"), assignment, hit, kept)


def complete(visit: str, params: Mapping[str, str], code: str) -> dict[str, object]:
    """In the frame a form that the browser posts; it must hold the assignment and one more field."""
    submit_to = params.get("turkSubmitTo", "")
    if not submit_to:
        return {"kind": "code", "code": code}
    fields = {"assignmentId": params.get("assignmentId", ""), "visit": visit, "code": code}
    return {"kind": "form", "action": f"{submit_to}/mturk/externalSubmit", "fields": fields}


def link(url: str, token: str) -> str:
    """The ExternalURL; MTurk adds its parameters behind `&`."""
    return f"{url}/?k={quote(token)}"


def external_question(url: str) -> str:
    """The XML that CreateHIT wants as its question."""
    if urlsplit(url).scheme != "https":
        raise BadLinkError(f"{url}: MTurk shows https pages only; give --public_url=https://...")
    return (
        '<ExternalQuestion xmlns="http://mechanicalturk.amazonaws.com/AWSMechanicalTurkDataSchemas/2006-07-14/'
        f'ExternalQuestion.xsd"><ExternalURL>{escape(url)}</ExternalURL><FrameHeight>{FRAME_HEIGHT}</FrameHeight>'
        "</ExternalQuestion>"
    )

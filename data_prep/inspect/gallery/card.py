"""One image of the gallery: the picture, what lies over it as SVG, its times below, and what is known of it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from PIL import Image

from data_prep.inspect.counts import time_to_answer
from data_prep.inspect.gallery.overlay import overlay
from data_prep.inspect.gallery.timeline import timeline
from luab_jax.byproducts.records import ImageRecord, Size
from luab_jax.data.decoding import decode
from luab_jax.errors import DataError

_SIDE = 360
"""The longer side of a picture on the page and in its file, pixels."""
_QUALITY = 78


class Card(NamedTuple):
    """What the page shows of one record."""

    split: str
    title: str
    labels: list[int]
    has_byproducts: bool
    file_name: str
    width: int
    height: int
    picture: str
    """JPEG in base64."""
    overlay: Markup
    timeline: Markup
    broken: str
    """Why there is no picture."""
    chips: list[str]


def card(record: ImageRecord, names: Mapping[int, str], *, split: str, show_workers: bool = False) -> Card:
    """Of one record; `names` by label. `show_workers` also names the annotators, by their ids."""
    labels = [record.label] if record.label >= 0 else list(record.labels)
    longer = max(record.width, record.height)
    size = Size(max(1, round(_SIDE * record.width / longer)), max(1, round(_SIDE * record.height / longer)))
    picture, broken = "", ""
    try:
        picture = base64.b64encode(thumbnail(record)).decode()
    except DataError as e:
        broken = str(e)[:60]
    return Card(
        split=split,
        title=", ".join(names.get(label, f"class {label}") for label in labels) or "no class",
        labels=labels,
        has_byproducts=any(showing.selected or showing.actions for showing in record.showings),
        file_name=record.file_name,
        width=size.width,
        height=size.height,
        picture=picture,
        overlay=Markup(overlay(record, size, names)),
        timeline=Markup(timeline(record)),
        broken=broken,
        chips=list(_chips(record, show_workers=show_workers)),
    )


def thumbnail(record: ImageRecord) -> bytes:
    """A small JPEG of the pixels as they are stored. Raises `DataError` if they cannot be decoded."""
    image = decode(record.image, record.file_name)
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(buffer, "JPEG", quality=_QUALITY, optimize=True)  # without its metadata
    return buffer.getvalue()


def _chips(record: ImageRecord, *, show_workers: bool) -> Iterator[str]:
    """Short facts: the condition, and what each annotator did."""
    yield f"{record.width} × {record.height}"
    if record.group:
        yield record.group
    if not record.showings:
        return
    for number, showing in enumerate(record.showings, 1):
        words = [f"{number}:"] if len(record.showings) > 1 else []
        if not showing.actions:
            words.append("selected" if showing.selected else "not selected")
        if (waited := time_to_answer(showing)) is not None:
            words.append(f"first {'icon' if showing.actions else 'click'} after {waited / 1000:.2f} s")
        if len(showing.clicks) > 1:
            words.append(f"{len(showing.clicks)} clicks")
        corrections = sum(action.kind.value != "add" for action in showing.actions)
        if corrections:
            words.append(f"{corrections} correction{'s' if corrections > 1 else ''}")
        if showing.time_spent_ms:
            words.append(f"{showing.time_spent_ms / 1000:.1f} s in all")
        if showing.worker_id and show_workers:
            words.append(f"by {showing.worker_id[:16]}")
        yield " ".join([words[0], ", ".join(words[1:])]) if words and words[0].endswith(":") else ", ".join(words)

"""One image of the gallery: the picture, what lies over it as SVG, its times below, and what is known of it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from html import escape

import numpy as np
from PIL import Image

from data_prep.byproduct_statistics import time_to_answer
from data_prep.gallery.overlay import overlay
from data_prep.gallery.timeline import timeline
from luab_jax.byproducts.records import ImageRecord, Size
from luab_jax.data import transforms
from luab_jax.errors import DataError

_SIDE = 360
"""The longer side of a picture on the page and in its file, pixels."""
_QUALITY = 78


def card(record: ImageRecord, names: Mapping[int, str], *, split: str) -> str:
    """The HTML of one record; `names` by label."""
    labels = [record.label] if record.label >= 0 else list(record.labels)
    byproducts = any(showing.selected or showing.actions for showing in record.showings)
    title = ", ".join(names.get(label, f"class {label}") for label in labels) or "no class"
    return (
        f'<figure class="card" data-split="{escape(split)}" data-by="{int(byproducts)}"'
        f' data-classes="{" ".join(map(str, labels))}">'
        f"{_picture(record, names)}{timeline(record)}"
        f"<figcaption><b>{escape(title)}</b><span class='file'>{escape(record.file_name)}</span>"
        f"<span class='chips'>{''.join(f'<i>{escape(chip)}</i>' for chip in _chips(record))}</span>"
        "</figcaption></figure>"
    )


def _picture(record: ImageRecord, names: Mapping[int, str]) -> str:
    """The image, small, with everything that lies on it in the same units."""
    longer = max(record.width, record.height)
    size = Size(max(1, round(_SIDE * record.width / longer)), max(1, round(_SIDE * record.height / longer)))
    box = f'viewBox="0 0 {size.width} {size.height}"'
    try:
        encoded = base64.b64encode(thumbnail(record)).decode()
    except DataError as e:
        return f'<svg {box} role="img"><text class="broken" x="12" y="24">{escape(str(e)[:60])}</text></svg>'
    picture = (
        f'<image href="data:image/jpeg;base64,{encoded}" width="{size.width}" height="{size.height}"'
        ' preserveAspectRatio="none"/>'
    )
    return f'<svg {box} role="img">{picture}{overlay(record, size, names)}</svg>'


def thumbnail(record: ImageRecord) -> bytes:
    """A small JPEG of the pixels as they are stored. Raises `DataError` if they cannot be decoded."""
    image = transforms.decode(record.image, record.file_name)
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(buffer, "JPEG", quality=_QUALITY, optimize=True)  # without its metadata
    return buffer.getvalue()


def _chips(record: ImageRecord) -> Iterator[str]:
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
        if showing.worker_id:
            words.append(f"by {showing.worker_id[:16]}")
        yield " ".join([words[0], ", ".join(words[1:])]) if words and words[0].endswith(":") else ", ".join(words)

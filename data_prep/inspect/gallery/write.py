"""A page of images with all that annotators left on them: one HTML file that needs nothing else, and no network.

Names and labels come from other people's files. Jinja2 escapes every text, and the page's own policy forbids it to load
anything.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Sequence
from importlib import resources

import jinja2
import numpy as np
from markupsafe import Markup

from data_prep.inspect.gallery.card import Card, card
from data_prep.inspect.rows import Row
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.features import Example
from luab_jax.io.atomic import write_bytes
from luab_jax.io.storage import Place

Report = tuple[PreparedSplit, str, list[Row]]
"""A split, its title and its rows of statistics."""


LAYERS = ("trace", "clicks", "boxes", "masks", "icons", "times")
"""What can be hidden, by the class of its groups."""


def write_gallery(
    path: Place, reports: Sequence[Report], *, num_images: int, seed: int, show_workers: bool = False
) -> None:
    """Writes the page with up to `num_images` of each split, drawn by `seed`. Raises `WriteError`."""
    cards: list[Card] = []
    labels: dict[int, str] = {}
    for split, _, _ in reports:
        names = dict(enumerate(split.manifest.classes.names))
        for index in sample(len(split.records), num_images, seed):
            record = Example(split.records[index]).record()
            shown = [record.label] if record.label >= 0 else record.labels
            labels |= {label: names.get(label, f"class {label}") for label in shown}
            cards.append(card(record, names, split=split.manifest.split, show_workers=show_workers))
    drawn = "".join(one.overlay + one.timeline for one in cards)
    page = (
        _environment()
        .get_template("gallery.html")
        .render(
            title=", ".join(dict.fromkeys(split.manifest.dataset for split, _, _ in reports)),
            directory=str(reports[0][0].directory),
            num_images=f"{sum(split.manifest.num_records for split, _, _ in reports):,}",
            seed=seed,
            date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            splits=list(dict.fromkeys(split.manifest.split for split, _, _ in reports)),
            classes=sorted(labels.items(), key=lambda pair: pair[1]),
            reports=[(title, found) for _, title, found in reports],
            layers=[name for name in LAYERS if f'class="{name}"' in drawn],
            cards=cards,
            style=Markup(_resource("gallery.css")),
            script=Markup(_resource("gallery.js")),
        )
    )
    write_bytes(path, page.encode(errors="replace"))


def render_card(shown: Card) -> str:
    """The HTML of one card."""
    return _environment().get_template("card.html").render(card=shown)


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_resource), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )


def _resource(name: str) -> str:
    return resources.files("data_prep.inspect.gallery").joinpath("templates", name).read_text(encoding="utf-8")


def sample(total: int, count: int, seed: int) -> list[int]:
    """`count` different positions below `total`, ascending; the same for the same seed."""
    chosen = np.random.default_rng(seed).choice(total, min(count, total), replace=False)
    return sorted(chosen.tolist())

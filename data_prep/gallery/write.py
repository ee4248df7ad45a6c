"""A page of images with all that annotators left on them: one HTML file that needs nothing else, and no network.

Names and labels come from other people's files, so every text is escaped, and the page's own policy forbids it to load
anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from data_prep.gallery.card import card
from data_prep.gallery.page import PAGE, layer_boxes
from data_prep.statistics_rows import Row
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.features import Example
from luab_jax.errors import DataError

Report = tuple[PreparedSplit, str, list[Row]]
"""A split, its title and its rows of statistics."""


def write_gallery(path: Path, reports: Sequence[Report], *, num_images: int, seed: int) -> None:
    """Writes the page with up to `num_images` of each split, drawn by `seed`. Raises `DataError` if it cannot."""
    cards: list[str] = []
    labels: dict[int, str] = {}
    for split, _, _ in reports:
        names = dict(enumerate(split.manifest.classes.names))
        for index in sample(len(split.records), num_images, seed):
            record = Example(split.records[index]).record()
            shown = [record.label] if record.label >= 0 else record.labels
            labels |= {label: names.get(label, f"class {label}") for label in shown}
            cards.append(card(record, names, split=split.manifest.split))
    page = PAGE.substitute(
        title=escape(", ".join(dict.fromkeys(split.manifest.dataset for split, _, _ in reports))),
        directory=escape(str(reports[0][0].directory)),
        num_cards=len(cards),
        num_images=f"{sum(split.manifest.num_records for split, _, _ in reports):,}",
        seed=seed,
        splits=_options(dict.fromkeys(split.manifest.split for split, _, _ in reports)),
        classes="".join(
            f'<option value="{label}">{escape(name)}</option>'
            for label, name in sorted(labels.items(), key=lambda pair: pair[1])
        ),
        reports="".join(_table(title, found) for _, title, found in reports),
        layers=layer_boxes("".join(cards)),
        cards="".join(cards),
    )
    try:
        path.write_text(page, encoding="utf-8", errors="replace")
    except OSError as e:
        raise DataError(f"--html={path}: cannot be written ({e.strerror or e})") from e


def sample(total: int, count: int, seed: int) -> list[int]:
    """`count` different positions below `total`, ascending; the same for the same seed."""
    chosen = np.random.default_rng(seed).choice(total, min(count, total), replace=False)
    return sorted(chosen.tolist())


def _options(values: dict[str, None]) -> str:
    return "".join(f'<option value="{escape(value)}">{escape(value)}</option>' for value in values)


def _table(title: str, found: Sequence[Row]) -> str:
    body = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in found)
    return f"<details><summary>{escape(title)}</summary><table>{body}</table></details>"

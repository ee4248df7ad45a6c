"""Example images on the page: the input with what is known of it, then where each run looked and what it said."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator, Sequence
from html import escape

from luab_jax.evaluation.examples import ExampleImage, Examples, Numbers
from luab_jax.evaluation.page.choice import Chosen, Row, common, kinds
from luab_jax.evaluation.page.overlay import overlay, ramp
from luab_jax.evaluation.page.plots import colour
from luab_jax.evaluation.report import Column

_NUM_ANSWERS = 3
_METHODS = {
    "class_activation_map": "class activation maps of the class in bold (Zhou et al. 2016)",
    "attention_rollout": "attention rollout, which is the same for every class (Abnar and Zuidema 2020)",
}


def example_pictures(columns: Sequence[Column], examples: Sequence[Examples]) -> str:
    """Empty if no run has examples."""
    chosen = common(columns, examples)
    if chosen is None or not chosen.rows:
        return ""
    names = _short([columns[run].name for run in chosen.runs])
    store = _Store()
    parts = [_about(chosen, names, [column.name for run, column in enumerate(columns) if run not in chosen.runs])]
    for kind in kinds(chosen.rows, names):
        count = f" <small>{kind.count} of {len(chosen.rows)}</small>" if kind.count is not None else ""
        cards = "".join(_card(row, chosen.runs, names, store) for row in kind.rows)
        parts.append(f'<h3>{escape(kind.title)}{count}</h3><div class="figures">{cards}</div>')
    return store.definitions() + "".join(parts)


def _short(names: Sequence[str]) -> list[str]:
    """Without the words that all begin or end with, such as the model; each keeps at least one."""
    words = [name.split() for name in names]
    for end in (0, -1):
        while len(words) > 1 and min(map(len, words)) > 1 and len({of_name[end] for of_name in words}) == 1:
            for of_name in words:
                of_name.pop(end)
    return [" ".join(of_name) for of_name in words]


class _Store:
    """Every picture stands in the page once, however often it is drawn."""

    def __init__(self) -> None:
        self._places: dict[bytes, tuple[int, str]] = {}

    def use(self, image: ExampleImage, looks: str) -> str:
        place, _ = self._places.setdefault(image.picture, (len(self._places), image.media_type))
        return f'<use href="#picture{place}" class="{looks}"/>'

    def definitions(self) -> str:
        pictures = (
            f'<image id="picture{place}" {_SQUARE} href="{_data(media_type, picture)}"/>'
            for picture, (place, media_type) in self._places.items()
        )
        return f'<svg class="store" aria-hidden="true"><defs>{"".join(pictures)}</defs></svg>'


_SQUARE = 'width="100" height="100" preserveAspectRatio="none"'


def _data(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _about(chosen: Chosen, names: Sequence[str], absent: Sequence[str]) -> str:
    """What a reader must know to read the pictures; `names` are those of the runs that have examples."""
    first = chosen.of_run[0]
    notes = [
        f"{len(chosen.rows)} of the {first.num_images:,} images of {first.dataset} val, drawn without a look at the"
        " answers and the same for all runs; of each kind the first in that order. Percent are the model's"
        " probabilities. Maps reach from their own lowest to their own highest value:"
    ]
    methods = dict.fromkeys(of_run.map for of_run in chosen.of_run)
    for method in methods:
        who = ", ".join(n for n, of_run in zip(names, chosen.of_run, strict=True) if of_run.map == method)
        notes.append((f"{who}: " if len(methods) > 1 else "") + _METHODS.get(method, method))
    without = f" No example images on this data: {', '.join(absent)}." if absent else ""
    text = f"{notes[0]} {'; '.join(notes[1:])}.{without}"
    keys = (("click", "recorded click"), ("box", "box of the class"), ("point", "predicted point"))
    legend = "".join(f'<span><svg viewBox="0 0 22 14">{_KEYS[key]}</svg>{name}</span>' for key, name in keys)
    scale = f'<span><i class="ramp" style="background:{ramp()}"></i>low to high</span>'
    return f'<p class="note">{escape(text)}</p><p class="legend">{legend}{scale}</p>'


def _card(row: Row, runs: Sequence[int], names: Sequence[str], store: _Store) -> str:
    """The input, then a panel for each run; a run that saw other pixels has its own below its map."""
    first = row[0]
    labels = f"{_words(first.labels, first.shown)} <small>{escape(first.file_name)}</small>"
    seen = f"{store.use(first, 'input')}{_known(first)}"
    panels = [_panel("input", seen, "", "")]
    for run, name, image in zip(runs, names, row, strict=True):
        drawn = f"{store.use(image, 'under')}{_map(image)}{_known(image)}{_predicted(image)}"
        panels.append(_panel(name, drawn, f"run {colour(run)}", "".join(_answers(image))))
    return (
        f'<figure class="example"><figcaption>{labels}</figcaption><div class="panels">{"".join(panels)}</div></figure>'
    )


def _words(labels: Sequence[str], shown: str) -> str:
    """The labels, the one that is shown in bold."""
    return "; ".join(f"<b>{escape(label)}</b>" if label == shown else escape(label) for label in labels)


def _panel(title: str, drawn: str, run: str, below: str) -> str:
    return (
        f'<div class="panel {run}"><p title="{escape(title)}">{escape(title)}</p>'
        f'<svg viewBox="0 0 100 100" role="img" aria-label="{escape(title)}">{drawn}</svg>{below}</div>'
    )


def _map(image: ExampleImage) -> str:
    if image.map is None:
        return '<text x="50" y="54" class="middle none">no map</text>'
    return f'<image {_SQUARE} href="{_data("image/png", overlay(image.map))}"/>'


def _known(image: ExampleImage) -> str:
    """Box and click, as they were recorded."""
    box = "" if image.box is None else "".join(_rectangle(image.box))
    return box + ("" if image.click is None else _click(100 * image.click[0], 100 * image.click[1]))


def _predicted(image: ExampleImage) -> str:
    """The point, on the picture even where it was predicted outside."""
    if image.point is None:
        return ""
    x, y = (min(98.0, max(2.0, 100 * value)) for value in image.point)
    return _cross(x, y)


def _rectangle(box: Numbers) -> Iterator[str]:
    left, top, right, bottom = (min(99.4, max(0.6, 100 * value)) for value in box)
    for looks in ("halo", "box"):
        yield (
            f'<rect class="{looks}" x="{left:.1f}" y="{top:.1f}" width="{max(0.0, right - left):.1f}"'
            f' height="{max(0.0, bottom - top):.1f}"/>'
        )


def _click(x: float, y: float) -> str:
    return "".join(f'<circle class="{looks}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for looks in ("halo", "click"))


def _cross(x: float, y: float) -> str:
    path = f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"
    return f'<path class="halo" d="{path}"/><path class="point" d="{path}"/>'


_KEYS = {"click": _click(11.0, 7.0), "box": "".join(_rectangle((0.03, 0.02, 0.19, 0.12))), "point": _cross(11.0, 7.0)}


def _answers(image: ExampleImage) -> Iterator[str]:
    """The best, then what is shown if it is not among them."""
    if not image.answers:
        yield '<p class="answer">no finite answer</p>'
    best = image.answers[:_NUM_ANSWERS]
    rest = [answer for answer in image.answers[_NUM_ANSWERS:] if answer[0] == image.shown]
    for place, (name, probability) in enumerate(itertools.chain(best, rest)):
        looks = "answer" + (" right" if name in image.labels else "") + (" first" if not place else "")
        percent = 100 * min(1.0, max(0.0, probability))
        yield (
            f'<p class="{looks}" title="{escape(name)}"><i style="width:{percent:.1f}%"></i>'
            f"<span>{escape(name)}</span><small>{percent:.1f}</small></p>"
        )

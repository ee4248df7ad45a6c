"""Example images on the page: the input with what is known of it, then where each run looked and what it said."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from markupsafe import Markup

from luab_jax.report.page.choice import Chosen, common, kinds
from luab_jax.report.page.choice import Row as ImageRow
from luab_jax.report.page.overlay import overlay, ramp
from luab_jax.report.page.plots import colour
from luab_jax.report.runs import Experiment
from luab_jax.results.example_images import ExampleImage, Examples, Numbers
from luab_jax.results.text import printable

_NUM_ANSWERS = 3
_METHODS = {
    "class_activation_map": "class activation maps of the class in bold (Zhou et al. 2016)",
    "attention_rollout": "attention rollout, which is the same for every class (Abnar and Zuidema 2020)",
    "none": "none, for the model gives no map",
}


class Answer(NamedTuple):
    """A class that a run named, and its probability in percent."""

    name: str
    percent: float
    looks: str


class Panel(NamedTuple):
    """One picture of a card."""

    title: str
    drawing: Markup
    looks: str
    answers: list[Answer]
    no_answer: bool = False


class Card(NamedTuple):
    """One image, as it is and as each run saw it."""

    labels: list[tuple[str, bool]]
    """Each with whether it is the one that is shown."""
    file_name: str
    panels: list[Panel]


class CardGroup(NamedTuple):
    """Images of one kind."""

    title: str
    count: str
    cards: list[Card]


class Pictures(NamedTuple):
    """All example images, and what a reader must know of them."""

    about: str
    keys: list[tuple[Markup, str]]
    ramp: str
    """Empty if no map is drawn."""
    store: Markup
    groups: list[CardGroup]
    num_panels: int


def example_pictures(experiments: Sequence[Experiment], examples: Sequence[Examples]) -> Pictures | None:
    """None if no run has examples."""
    chosen = common(experiments, examples)
    if chosen is None or not chosen.rows:
        return None
    names = _short([experiments[run].name for run in chosen.runs])
    store = _Store()
    groups = [
        CardGroup(
            kind.title,
            f"{kind.count} of {len(chosen.rows)}" if kind.count is not None else "",
            [_card(row, chosen.runs, names, store) for row in kind.rows],
        )
        for kind in kinds(chosen.rows, names)
    ]
    absent = [of.name for place, of in enumerate(experiments) if place not in chosen.runs]
    shown = [row for kind in kinds(chosen.rows, names) for row in kind.rows]
    has_map = any(image.map is not None for row in shown for image in row)
    about = _about(chosen, names, absent)
    return Pictures(about, _keys(shown), ramp() if has_map else "", store.definitions(), groups, len(names) + 1)


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

    def use(self, image: ExampleImage, looks: str) -> Markup:
        place, _ = self._places.setdefault(image.picture, (len(self._places), image.media_type))
        return Markup('<use href="#picture{}" class="{}"/>').format(place, looks)

    def definitions(self) -> Markup:
        return Markup("").join(
            Markup(f'<image id="picture{{}}" {_SQUARE} href="{{}}"/>').format(place, _data(media_type, picture))
            for picture, (place, media_type) in self._places.items()
        )


_SQUARE = 'width="100" height="100" preserveAspectRatio="none"'


def _data(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _about(chosen: Chosen, names: Sequence[str], absent: Sequence[str]) -> str:
    """What a reader must know to read the pictures; `names` are those of the runs that have examples."""
    first = chosen.of_run[0]
    notes = [
        f"{len(chosen.rows)} of the {first.num_images:,} images of {printable(first.dataset)} val, drawn without a look"
        " at the answers and the same for all runs; of each kind the first in that order. Percentages are the model's"
        " probabilities. Maps reach from their own lowest to their own highest value:"
    ]
    methods = dict.fromkeys(of_run.map for of_run in chosen.of_run)
    for method in methods:
        who = ", ".join(n for n, of_run in zip(names, chosen.of_run, strict=True) if of_run.map == method)
        notes.append((f"{who}: " if len(methods) > 1 else "") + _METHODS.get(method, printable(method)))
    without = f" No example images on this data: {', '.join(absent)}." if absent else ""
    return f"{notes[0]} {'; '.join(notes[1:])}.{without}"


def _keys(rows: Sequence[ImageRow]) -> list[tuple[Markup, str]]:
    """The marks that are on any picture, with their names."""
    images = [image for row in rows for image in row]
    found = []
    if any(image.click is not None for image in images):
        found.append((_KEYS["click"], "recorded click"))
    if any(image.box is not None for image in images):
        found.append((_KEYS["box"], "box of the class"))
    if any(image.point is not None for image in images):
        found.append((_KEYS["point"], "predicted point"))
    return found


def _card(row: ImageRow, runs: Sequence[int], names: Sequence[str], store: _Store) -> Card:
    """The input, then a panel for each run; a run that saw other pixels has its own below its map."""
    first = row[0]
    labels = [(printable(label), label == first.shown) for label in first.labels]
    panels = [Panel("input", store.use(first, "input") + _known(first), "", [])]
    for run, name, image in zip(runs, names, row, strict=True):
        drawn = store.use(image, "under") + _map(image) + _known(image) + _predicted(image)
        panels.append(Panel(name, drawn, f"run {colour(run)}", list(_answers(image)), not image.answers))
    return Card(labels, printable(first.file_name), panels)


def _map(image: ExampleImage) -> Markup:
    if image.map is None:
        return Markup('<text x="50" y="54" class="middle none">no map</text>')
    return Markup(f'<image {_SQUARE} href="{{}}"/>').format(_data("image/png", overlay(image.map)))


def _known(image: ExampleImage) -> Markup:
    """Box and click, as they were recorded."""
    box = Markup("") if image.box is None else _rectangle(image.box)
    return box + (Markup("") if image.click is None else _click(100 * image.click[0], 100 * image.click[1]))


def _predicted(image: ExampleImage) -> Markup:
    """The point, on the picture even where it was predicted outside."""
    if image.point is None:
        return Markup("")
    x, y = (min(98.0, max(2.0, 100 * value)) for value in image.point)
    return _cross(x, y)


def _rectangle(box: Numbers) -> Markup:
    left, top, right, bottom = (min(99.4, max(0.6, 100 * value)) for value in box)
    size = f'width="{max(0.0, right - left):.1f}" height="{max(0.0, bottom - top):.1f}"'
    return Markup("").join(
        Markup(f'<rect class="{looks}" x="{left:.1f}" y="{top:.1f}" {size}/>') for looks in ("halo", "box")
    )


def _click(x: float, y: float) -> Markup:
    return Markup("").join(
        Markup(f'<circle class="{looks}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>') for looks in ("halo", "click")
    )


def _cross(x: float, y: float) -> Markup:
    path = f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"
    return Markup(f'<path class="halo" d="{path}"/><path class="point" d="{path}"/>')


_KEYS = {"click": _click(11.0, 7.0), "box": _rectangle((0.03, 0.02, 0.19, 0.12)), "point": _cross(11.0, 7.0)}


def _answers(image: ExampleImage) -> Iterator[Answer]:
    """The best, then what is shown if it is not among them."""
    best = image.answers[:_NUM_ANSWERS]
    rest = [answer for answer in image.answers[_NUM_ANSWERS:] if answer[0] == image.shown]
    for place, (name, probability) in enumerate(itertools.chain(best, rest)):
        looks = "answer" + (" right" if name in image.labels else "") + (" first" if not place else "")
        yield Answer(printable(name), 100 * min(1.0, max(0.0, probability)), looks)

"""Statistics of a split as rows of text: a name and what is to be said."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from data_prep.inspect.counts import Annotator, Histogram, Statistics

Row = tuple[str, str]


def rows(statistics: Statistics, num_classes: int) -> list[Row]:
    """In the order in which one asks: images, annotators' coverage, where they clicked, how long it took."""
    found = [*_images(statistics, num_classes), *_coverage(statistics), *_places(statistics)]
    return [*found, *_corrections(statistics), *_traces(statistics), *_annotators(statistics)]


def _of(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({part / max(whole, 1):.1%})"


def _images(statistics: Statistics, num_classes: int) -> Iterator[Row]:
    facts = statistics.facts
    per_label = sorted(statistics.images_per_label.values())
    if per_label:
        few, many = per_label[0], per_label[-1]
        spread = (
            f"{few:,} to {many:,} images each" if few < many else f"{few:,} {'image' if few == 1 else 'images'} each"
        )
        yield "classes", f"{len(per_label):,} of {num_classes:,}, {spread}"
    if unlabelled := facts["records"] - facts["with_label"]:
        yield "images without a class", f"{unlabelled:,}"
    total = max(facts["records"], 1)
    yield "image bytes", f"{facts['image_bytes'] / 1e6:,.1f} MB, {facts['image_bytes'] / total / 1e3:.1f} kB each"


def _coverage(statistics: Statistics) -> Iterator[Row]:
    facts, clicks = statistics.facts, statistics.clicks_per_image
    if not facts["showings"]:
        yield "byproducts", "none"
    else:
        yield "shown to an annotator", f"{facts['with_showing']:,} images, {facts['showings']:,} showings"
        yield "with several showings", f"{facts['with_several_showings']:,} images"
        yield "selected byproduct", _of(facts["with_selected"], facts["records"])
    if facts["showings"] and not statistics.actions:
        yield "clicks per image", _shares(statistics)
    elif clicks.total() > clicks[0]:
        yield "clicks", f"{sum(n * count for n, count in clicks.items()):,}"
    if facts["boxes"]:
        yield "with a box", f"{facts['with_box']:,} images, {facts['boxes']:,} boxes"
    if facts["masks"]:
        yield "masks", f"{facts['masks']:,}"


def _shares(statistics: Statistics, last: int = 5) -> str:
    """`0: 4, 1: 12`, and what is above `last` together."""
    clicks = statistics.clicks_per_image
    single = [f"{n}: {clicks[n]:,}" for n in sorted(clicks) if n <= last]
    more = sum(count for n, count in clicks.items() if n > last)
    return ", ".join([*single, *([f"more: {more:,}"] if more else [])])


def _places(statistics: Statistics) -> Iterator[Row]:
    """Points against boxes and masks."""
    facts = statistics.facts
    if icons := facts["final_icons"]:
        yield "icons left on a class", f"{icons:,}, one for each class and record"
    names = {"clicks": "final clicks", "final_icons": "final icons", "added_icons": "last added icons"}
    for name, title in names.items():
        for thing in ("box", "mask"):
            if checked := facts[f"{name}_with_{thing}"]:
                rule = ", the official rule" if name == "added_icons" else ""
                yield f"{title} in a {thing}", f"{_of(facts[f'{name}_in_{thing}'], checked)}{rule}"
        if outside := facts[f"{name}_outside_image"]:
            yield f"{title} off the image", f"{outside:,}"


def _corrections(statistics: Statistics) -> Iterator[Row]:
    facts, actions = statistics.facts, statistics.actions
    if clicked := facts["selected_with_click"]:
        yield "toggled", f"{_of(facts['toggled'], clicked)} selected showings, {facts['extra_clicks']:,} clicks more"
        yield "clicked, then taken back", f"{facts['taken_back']:,} showings"
    if actions:
        yield "icon actions", ", ".join(f"{kind} {actions[kind]:,}" for kind in ("add", "move", "remove"))
        yield "pages of icons turned", f"{facts['category_views']:,}"


def _traces(statistics: Statistics) -> Iterator[Row]:
    facts, samples = statistics.facts, statistics.trace_samples
    if facts["hovers"]:  # COCO's tool and tables of clicks do not record it
        yield "mouse entered the image", f"{facts['hovers']:,} times"
    if facts["showings"]:
        yield "with a mouse trace", _of(len(samples), facts["showings"]) + " showings"
    if len(samples):
        yield "samples of a trace", _spread(samples, lambda value: f"{value:,.0f}")
    if len(statistics.trace_ms):
        yield "duration of a trace", _spread(statistics.trace_ms, _seconds)


def _annotators(statistics: Statistics) -> Iterator[Row]:
    """Distributions over annotators: each counts once, however much he or she did."""
    annotators = statistics.annotators.values()
    if not annotators:
        return
    counts = np.percentile([annotator.showings for annotator in annotators], [10, 50, 90])
    low, middle, high = (f"{count:,.0f}" for count in counts)
    yield "annotators", f"{len(annotators):,}"
    yield "showings each", f"median {middle}, 10-90 %: {low} to {high}"
    columns: tuple[tuple[str, Callable[[Annotator], Histogram], Callable[[float], str]], ...] = (
        ("time to click", lambda annotator: annotator.time_to_click, _seconds),
        ("time spent", lambda annotator: annotator.time_spent, _seconds),
        ("trace length", lambda annotator: annotator.trace_length, lambda value: f"{value:.2f}"),
    )
    for title, of, shown in columns:
        medians = [of(annotator).quantile(0.5) for annotator in annotators if len(of(annotator))]
        if not medians:
            continue
        low, middle, high = (shown(value) for value in np.percentile(medians, [10, 50, 90]))
        ends = ("shortest", "longest") if title == "trace length" else ("quickest", "slowest")
        unit = " image diagonals" if title == "trace length" else ""
        yield (
            f"median {title}",
            f"{middle}{unit} for the median annotator; {ends[0]} tenth below {low}, {ends[1]} above {high}",
        )


def _spread(histogram: Histogram, shown: Callable[[float], str]) -> str:
    low, middle, high = (shown(histogram.quantile(share)) for share in (0.1, 0.5, 0.9))
    return f"median {middle}, 10-90 %: {low} to {high}"


def _seconds(ms: float) -> str:
    return f"{ms / 1000:.2f} s"

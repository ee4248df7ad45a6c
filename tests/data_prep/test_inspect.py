"""`data_prep inspect`: what is counted, that counts of shards add up, and the page."""

from __future__ import annotations

import math
import pickle
import random
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.__main__ import main
from data_prep.inspect.counts import Histogram, Statistics, time_to_answer, trace_length
from data_prep.inspect.gallery.card import card
from data_prep.inspect.gallery.write import render_card, sample
from data_prep.inspect.rows import rows
from luab_jax.byproducts.records import (
    Action,
    ActionKind,
    Box,
    Hover,
    ImageRecord,
    Point,
    Showing,
    Size,
    TimedPoint,
)
from luab_jax.byproducts.responses import log_time_to_click
from luab_jax.errors import ExitCode
from tests.byproducts.annotated import columns
from tests.data_prep.conftest import RawData, image_bytes

Capture = pytest.CaptureFixture[str]
Make = Callable[..., RawData]


def drawn(*arguments: Any, **options: Any) -> str:
    """The HTML of a card."""
    return render_card(card(*arguments, **options))


def showing(worker: str = "W", *, clicks: int = 1, waited: int = 500, selected: bool = True) -> Showing:
    return Showing(
        selected=selected,
        clicks=tuple(TimedPoint(0.2 + 0.1 * k, 0.5, 1000 + waited + k) for k in range(clicks)),
        trace=(TimedPoint(0.0, 0.0, 1000), TimedPoint(0.3, 0.4, 1000 + waited)),
        hovers=(Hover(True, 100), Hover(False, 200), Hover(True, 1000)),
        time_spent_ms=waited,
        worker_id=worker,
    )


def record(index: int = 0, **fields: object) -> ImageRecord:
    values = {"file_name": f"{index}.jpg", "image": image_bytes(index), "height": 6, "width": 8, "label": index % 2}
    return ImageRecord(**(values | fields))  # type: ignore[arg-type]


def counted(*records: ImageRecord) -> Statistics:
    statistics = Statistics()
    for item in records:
        statistics.add(item)
    return statistics


def test_time_to_click_begins_with_the_last_entry_before_it() -> None:
    assert time_to_answer(showing(waited=500)) == 500
    without_hovers = Showing(clicks=(TimedPoint(0, 0, 90),), trace=(TimedPoint(0, 0, 30),))
    assert time_to_answer(without_hovers) == 60
    assert time_to_answer(Showing(clicks=(TimedPoint(0, 0, 90),))) is None
    assert time_to_answer(Showing(clicks=(TimedPoint(0, 0, 90),), hovers=(Hover(True, 95),))) is None
    add = Action(ActionKind.ADD, "dog", None, Point(0.5, 0.5), 4000, 1)
    assert time_to_answer(Showing(actions=(add,))) == 4000


TIMES = st.none() | st.integers(0, 50)


@given(st.lists(TIMES, max_size=3), st.lists(st.tuples(st.booleans(), TIMES), max_size=4), st.lists(TIMES, max_size=2))
def test_the_time_shown_is_the_one_that_training_takes(
    clicks: list[int | None], hovers: list[tuple[bool, int | None]], trace: list[int | None]
) -> None:
    made = Showing(
        selected=True,
        clicks=tuple(TimedPoint(0.5, 0.5, time) for time in clicks),
        hovers=tuple(Hover(entered, time) for entered, time in hovers),
        trace=tuple(TimedPoint(0.5, 0.5, time) for time in trace),
    )
    shown, trained = time_to_answer(made), log_time_to_click(columns(made))
    assert (shown is None) == (trained is None)
    if shown is not None and trained is not None:
        assert max(shown, 1) == pytest.approx(math.exp(trained))


def test_the_way_of_the_pointer_is_measured_in_diagonals() -> None:
    corners = [TimedPoint(0.0, 0.0, None), TimedPoint(1.0, 1.0, None), TimedPoint(1.0, 0.0, None)]
    assert trace_length(corners, Size(30, 40)) == pytest.approx(1 + 40 / 50)


def test_clicks_against_boxes_and_corrections() -> None:
    box = Box(x_min=0.0, y_min=0.0, x_max=0.25, y_max=1.0)
    statistics = counted(
        record(0, showings=(showing(),), boxes=(box,)),
        record(1, showings=(showing(clicks=2),), boxes=(box,)),
        record(2, showings=(showing(selected=False),)),
        record(3),
    )
    found = dict(rows(statistics, 2))
    assert found["final clicks in a box"] == "1 of 2 (50.0%)"
    assert found["toggled"] == "1 of 2 (50.0%) selected showings, 1 clicks more"
    assert found["clicked, then taken back"] == "1 showings"
    assert found["clicks per image"] == "0: 2, 1: 1, 2: 1"
    assert found["selected byproduct"] == "2 of 4 (50.0%)"


def test_many_annotators_are_a_distribution_and_not_a_list() -> None:
    """Each counts once: the one with a hundred images does not drown the others."""
    records = [record(k, showings=(showing("busy", waited=9000),)) for k in range(100)]
    records += [record(k, showings=(showing(f"w{k}", waited=100 * (k + 1)),)) for k in range(19)]
    found = dict(rows(counted(*records), 2))
    assert found["annotators"] == "20" and found["showings each"] == "median 1, 10-90 %: 1 to 1"
    text = found["median time to click"]
    assert text.startswith("1.0") and "quickest tenth below 0.29 s" in text and "slowest above 1.8" in text
    assert len(found) < 25


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_statistics_of_shards_add_up(seed: int, num_shards: int) -> None:
    rng = random.Random(seed)
    records = [
        record(k, showings=tuple(showing(rng.choice("ABC"), clicks=rng.randint(0, 3), waited=rng.randint(0, 5000))
                                 for _ in range(rng.randint(0, 2))))
        for k in range(12)
    ]  # fmt: skip
    merged = Statistics()
    for shard in range(num_shards):
        merged.merge(pickle.loads(pickle.dumps(counted(*records[shard::num_shards]))))
    assert rows(merged, 2) == rows(counted(*records), 2)


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=200), st.floats(0.0, 1.0))
def test_quantiles_are_off_by_a_percent_at_most(values: list[int], share: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    exact = float(np.quantile(values, share, method="inverted_cdf"))
    assert math.isclose(histogram.quantile(share), exact, rel_tol=0.0101)


def test_memory_does_not_grow_with_the_images() -> None:
    def size(count: int) -> int:
        rng = random.Random(0)
        statistics = Statistics()
        for k in range(count):
            statistics.add(
                record(0, file_name=f"{k}.jpg", showings=(showing("AB"[k % 2], waited=rng.randint(1, 9999)),))
            )
        return len(pickle.dumps(statistics))

    assert size(4000) < 2 * size(400)


def test_a_directory_is_reported_split_by_split(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw, out = make_raw(), tmp_path / "out"
    assert main(raw.arguments(out, "--shards=3")) == 0
    assert main(raw.arguments(out, "--split=val")) == 0
    for workers in (1, 2):
        capsys.readouterr()
        assert main(["inspect", str(out), f"--workers={workers}"]) == 0
        printed = capsys.readouterr().out
        assert "train of imagenet_ab: 16 images in 3 shards" in printed and "val of imagenet_ab" in printed
    assert main(["inspect", str(out), "--split=val", "--workers=1"]) == 0
    assert "train of" not in capsys.readouterr().out
    assert main(["inspect", str(out), "--split=test", "--workers=1"]) == ExitCode.FAILED
    assert "no split 'test'; it has train, val" in capsys.readouterr().err


class Page(HTMLParser):
    """The elements of a page, their attributes, and all of its text outside style and script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self._code = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self._code = tag in ("style", "script")

    def handle_data(self, data: str) -> None:
        self.text += "" if self._code else data

    def handle_endtag(self, tag: str) -> None:
        self._code = False


@pytest.fixture
def page(make_raw: Make, tmp_path: Path) -> Page:
    raw, out = make_raw(), tmp_path / "out"
    hostile = "\"><script>alert(1)<img src=x onerror='x'>.JPEG"
    (raw.images / "cat" / hostile.replace("/", "")).write_bytes(image_bytes())
    raw.classes.write_text("cat\t<b onclick=alert(2)>cat & co</b>\ndog\t$cards ${x}\n")
    assert main(raw.arguments(out)) == 0
    assert main(["inspect", str(out), "--workers=1", f"--html={tmp_path / 'page.html'}", "--images=17"]) == 0
    return Page((tmp_path / "page.html").read_text())


def test_the_page_stands_alone(page: Page) -> None:
    for name, value in page.attributes:
        if name in ("href", "src", "xlink:href", "action"):
            assert value.startswith("data:image/"), (name, value[:50])
        assert "//" not in value or value.startswith("data:image/"), (name, value[:50])
    policy = next(value for _, value in page.attributes if value.startswith("default-src 'none'"))
    assert "img-src data:" in policy
    assert page.elements.count("figure") == 17 and page.elements.count("link") == 0


def test_names_are_text_and_nothing_else(page: Page) -> None:
    assert page.elements.count("script") == 1 and "img" not in page.elements
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "<b onclick=alert(2)>cat & co</b>" in page.text and "$cards ${x}" in page.text
    assert "\"><script>alert(1)<img src=x onerror='x'>.JPEG" in page.text


@settings(deadline=None, max_examples=30)
@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_no_text_makes_an_element(name: str, group: str, worker: str) -> None:
    add = Action(ActionKind.ADD, name, None, Point(0.5, 0.5), 5, -1)
    item = record(file_name=name, group=group, showings=(Showing(worker_id=worker, actions=(add,)),))
    usual = Page(
        drawn(record(file_name="a", group="b", showings=(Showing(worker_id="c", actions=(add,)),)), {}, split="")
    )
    odd = Page(drawn(item, {0: worker}, split=group))
    assert set(odd.elements) <= {*usual.elements, "i"}
    assert {name for name, _ in odd.attributes} <= {name for name, _ in usual.attributes}


def test_the_sample_is_a_function_of_the_seed() -> None:
    assert sample(1000, 10, 3) == sample(1000, 10, 3) != sample(1000, 10, 4)
    assert sample(4, 10, 0) == [0, 1, 2, 3] and len(set(sample(50, 50, 1))) == 50


def test_what_was_clicked_and_traced_is_drawn() -> None:
    item = record(0, label=1, showings=(showing(clicks=3),), boxes=(Box(x_min=0.25, y_min=0.0, x_max=1.0, y_max=0.5),))
    html = drawn(item, {1: "dog"}, split="train")
    parsed = Page(html)
    assert 'data-by="1"' in html and 'data-classes="1"' in html
    assert html.index('class="first" cx="72.0" cy="135.0"') < html.index('class="last" cx="144.0" cy="135.0"')
    assert '<rect x="90.0" y="0.0" width="270.0" height="135.0"' in html
    assert "first click after 0.50 s, 3 clicks" in parsed.text and "dog" in parsed.text
    assert parsed.elements.count("polyline") == 2


def test_icons_are_drawn_where_they_lie_and_removed_ones_as_a_cross() -> None:
    actions = (
        Action(ActionKind.ADD, "dog", None, Point(0.25, 0.5), 10, 1),
        Action(ActionKind.MOVE, "dog", Point(0.25, 0.5), Point(0.5, 0.5), 20, 1),
        Action(ActionKind.ADD, "cat", None, Point(0.75, 0.5), 30, 0),
        Action(ActionKind.REMOVE, "cat", Point(0.75, 0.5), None, 40, 0),
    )
    html = drawn(record(0, label=-1, labels=(1,), showings=(Showing(actions=actions),)), {0: "cat", 1: "dog"}, split="")
    assert 'class="was" cx="90.0"' in html and 'class="icon" cx="180.0"' in html
    assert 'class="gone" d="M265.0 130.0' in html and html.count('class="icon"') == 1


def test_an_image_that_cannot_be_decoded_does_not_spoil_the_page() -> None:
    html = drawn(record(0, image=image_bytes()[:200]), {}, split="")
    assert "cannot be decoded" in html


def test_where_the_page_cannot_be_written(make_raw: Make, tmp_path: Path, capsys: Capture) -> None:
    raw, out = make_raw(), tmp_path / "out"
    assert main(raw.arguments(out)) == 0
    for place in (tmp_path, tmp_path / "nowhere" / "page.html"):
        assert main(["inspect", str(out), f"--html={place}", "--workers=1"]) == ExitCode.FAILED
        assert f"--html={place}" in capsys.readouterr().err


def test_annotators_are_named_only_where_it_is_asked_for() -> None:
    item = record(showings=(showing("A2EXAMPLE"),))
    assert "A2EXAMPLE" not in drawn(item, {}, split="train")
    assert "by A2EXAMPLE" in drawn(item, {}, split="train", show_workers=True)


def test_the_page_passes_the_wish_on(make_raw: Make, tmp_path: Path) -> None:
    raw, out = make_raw(), tmp_path / "out"
    assert main(raw.arguments(out)) == 0
    pages = []
    for number, options in enumerate(((), ("--show_workers",))):
        path = tmp_path / f"{number}.html"
        assert main(["inspect", str(out), "--workers=1", f"--html={path}", *options]) == 0
        pages.append(path.read_text())
    assert "by W1" not in pages[0] and "by W1" in pages[1]

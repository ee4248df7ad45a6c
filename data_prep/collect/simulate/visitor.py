"""What a simulated annotator does on the pages: it looks, chooses, changes its mind, and writes down what it meant."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from data_prep.collect.simulate.mouse import Hand, Ledger, rects_of


class Truth(Protocol):
    """What an annotator is to choose on a page, and where."""

    def selected(self, assignment: str) -> dict[int, tuple[float, float]]:
        """ImageNet page: index of each picture that shows the class, and the middle of the object."""
        ...

    def icons(self, assignment: str) -> dict[str, tuple[float, float]] | None:
        """COCO page: class and middle of each object; `None` if nothing is known of the picture."""
        ...


@dataclass(frozen=True)
class Manner:
    """How a simulated annotator works."""

    miss: float = 0.02
    """Share of wrong answers."""
    skip: float = 0.05
    """Share of pictures that the pointer never visits."""
    change: float = 0.08
    """Share of choices that are taken back and made again."""
    undo: float = 0.03
    """Share of choices that are undone by Ctrl+Z."""
    spread: float = 0.12
    """Standard deviation of a click around the middle of the object, in fractions of the picture."""
    steps: int = 6
    """Movements on the way to a picture."""


class Annotator:
    """One annotator in one browser context."""

    def __init__(self, page: Any, truth: Truth, *, seed: int, manner: Manner | None = None):
        self.page, self.truth = page, truth
        self.rng = random.Random(seed)
        self.manner = manner or Manner()

    def work(self, link: str, write: Callable[[Ledger], None], *, pages: int | None = None) -> int:
        """Opens the link and does pages until there are no more, or `pages` of them; returns how many."""
        self.page.goto(link)
        done = 0
        while pages is None or done < pages:
            # One screen after the other; a page that was submitted is not waited for twice.
            screen = self.page.wait_for_selector(
                "[data-screen]:not([data-screen=loading]):not([data-done])", timeout=60_000
            )
            kind = screen.get_attribute("data-screen")
            if kind == "consent":
                # By the keyboard, so that the pointer is not over a picture when the first page appears.
                self.page.focus("#agree")
                self.page.keyboard.press("Space")
                self.page.focus("#consent-agree")
                self.page.keyboard.press("Enter")
                self.page.wait_for_selector("[data-screen=consent]", state="detached", timeout=60_000)
            elif kind in ("practice", "task"):
                self._page(screen, kind, write)
                done += kind == "task"
            elif kind == "wait":
                self.page.wait_for_selector("[data-screen=wait]", state="detached", timeout=120_000)
            else:
                break
        return done

    def _page(self, screen: Any, kind: str, write: Callable[[Ledger], None]) -> None:
        assignment = screen.get_attribute("data-assignment")
        task = "coco" if screen.query_selector("#board") else "imagenet"
        self.page.wait_for_function(
            "() => document.querySelectorAll('.cell[data-state], .board[data-state]').length >= "
            "Math.max(1, document.querySelectorAll('.cell').length)",
            timeout=60_000,
        )
        ledger = Ledger(assignment, task)
        hand = Hand(self.page, ledger, rects_of(self.page, task))
        try:
            if kind == "practice":
                self._practise(hand, assignment, task)
            elif task == "imagenet":
                self._select(hand, self.truth.selected(assignment))
            else:
                self._place(hand, self.truth.icons(assignment))
            hand.park()
            self.page.wait_for_selector("#submit:not([disabled])", timeout=30_000)
            if kind == "practice":
                self._check()
            else:
                self.page.evaluate("() => document.querySelector('[data-screen]').setAttribute('data-done', '')")
                self.page.click("#submit")
                self._answer_doubt()
                self.page.wait_for_selector("[data-done]", state="detached", timeout=60_000)
                ledger.submitted = True
        finally:
            if kind == "task":
                write(ledger)

    def _check(self) -> None:
        """Hands the practice page in; it has to be passed, since the answers come from the plan."""
        self.page.click("#submit")
        self.page.wait_for_selector(".practice-note.good", timeout=30_000)
        self.page.click("#submit")
        self.page.wait_for_selector("[data-screen=practice]", state="detached", timeout=30_000)

    def _answer_doubt(self) -> None:
        asked = self.page.query_selector("dialog[open] >> text=Submit all the same")
        if asked:
            asked.click()

    def _practise(self, hand: Hand, assignment: str, task: str) -> None:
        if task == "imagenet":
            for index, point in sorted(self.truth.selected(assignment).items()):
                self._scroll_to(hand, f"button.photo[data-index='{index}']")
                self._go(hand, index, point)
                self._click(hand)
            return
        for c, point in (self.truth.icons(assignment) or {}).items():
            self._show_set_of(hand, c)
            self._drag(hand, c, point)
        self._look_through_sets(hand)

    # ImageNet

    def _select(self, hand: Hand, wanted: dict[int, tuple[float, float]]) -> None:
        selected: set[int] = set()
        for button in self.page.query_selector_all("button.photo"):
            index = int(button.get_attribute("data-index"))
            if not button.is_visible() or (index not in wanted and self.rng.random() < self.manner.skip):
                continue
            self._scroll_to(hand, f"button.photo[data-index='{index}']")
            choose = (index in wanted) != (self.rng.random() < self.manner.miss)
            middle = wanted.get(index, (0.5, 0.5))
            spread = self.manner.spread
            point = tuple(min(0.98, max(0.02, self.rng.gauss(m, spread))) for m in middle)
            self._go(hand, index, point)
            if not choose:
                continue
            self._toggle(hand, index, selected)
            if self.rng.random() < self.manner.change:
                self._toggle(hand, index, selected)
                self._go(hand, index, tuple(min(0.98, max(0.02, v + self.rng.uniform(-0.05, 0.05))) for v in point))
                self._toggle(hand, index, selected)
            elif self.rng.random() < self.manner.undo:
                self._undo(hand, index, selected)
        hand.ledger.add("final", time.time() * 1000, selected=sorted(selected))

    def _scroll_to(self, hand: Hand, selector: str) -> None:
        """Brings an element into the middle, with the pointer out of the way, if it is not in sight."""
        box = self.page.evaluate(
            "s => { const r = document.querySelector(s).getBoundingClientRect();"
            " return r.top >= 90 && r.bottom <= innerHeight - 90; }",
            selector,
        )
        if not box:
            hand.park()
            self.page.evaluate("s => document.querySelector(s).scrollIntoView({block: 'center'})", selector)
            self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        hand.look()

    def _go(self, hand: Hand, index: int, point: Sequence[float]) -> None:
        left, top, width, height = hand.look()[index]
        hand.path(left + point[0] * width, top + point[1] * height, self.rng, steps=self.manner.steps)

    @staticmethod
    def _click(hand: Hand) -> float:
        hand.press()
        return hand.release()

    def _toggle(self, hand: Hand, index: int, selected: set[int]) -> None:
        x, y = hand.ratio(index)
        t = self._click(hand)
        hand.ledger.add("deselect" if index in selected else "select", t, i=index, x=x, y=y)
        selected ^= {index}

    def _undo(self, hand: Hand, index: int, selected: set[int]) -> None:
        kind = "deselect" if index in selected else "select"
        t = hand.key("z", "KeyZ", ctrl=True)
        hand.ledger.add(kind, t, i=index, undo=True)
        selected ^= {index}

    # COCO

    def _place(self, hand: Hand, wanted: dict[str, tuple[float, float]] | None) -> None:
        """Places what is there; without any knowledge of the picture, two to four classes drawn at random."""
        sets = self.page.query_selector_all(".tab")
        placed: dict[str, tuple[float, float]] = {}
        drawn = self.rng.randint(2, 4) / 80
        hand.ledger.add("set_shown", time.time() * 1000, s=0)  # by the page itself
        for number in range(len(sets)):
            if number:
                hand.park()
                hand.ledger.add("set_shown", hand.key("ArrowRight", "ArrowRight"), s=number)
            for c in [icon.get_attribute("data-c") for icon in self.page.query_selector_all("#icons .icon")]:
                if wanted is None:
                    there = self.rng.random() < drawn
                    point = (self.rng.uniform(0.1, 0.9), self.rng.uniform(0.1, 0.9))
                else:
                    there, point = c in wanted, wanted.get(c, (0.5, 0.5))
                if there:
                    placed[c] = self._drag(hand, c, point)
                    self._change_mind(hand, c, placed)
        hand.ledger.add("final", time.time() * 1000, icons={c: list(point) for c, point in placed.items()})

    def _change_mind(self, hand: Hand, c: str, placed: dict[str, tuple[float, float]]) -> None:
        """Sometimes moves the icon a little, drags it off the picture and places it once more."""
        if self.rng.random() < self.manner.change * 3:
            x, y = placed[c]
            placed[c] = self._drag(hand, c, (min(0.95, x + 0.02), max(0.05, y - 0.03)), source=f".placed[data-c='{c}']")
        if self.rng.random() < self.manner.change:
            self._drag(hand, c, (-0.15, 0.5), source=f".placed[data-c='{c}']")
            placed[c] = self._drag(hand, c, placed[c])

    def _show_set_of(self, hand: Hand, c: str) -> None:
        hand.park()
        for number in range(len(self.page.query_selector_all(".tab"))):
            self.page.click(f"#set-{number}")
            if self.page.query_selector(f"#icons .icon[data-c='{c}']"):
                return

    def _look_through_sets(self, hand: Hand) -> None:
        hand.park()
        for number in range(len(self.page.query_selector_all(".tab"))):
            self.page.click(f"#set-{number}")

    def _drag(self, hand: Hand, c: str, point: Sequence[float], *, source: str = "") -> tuple[float, float]:
        """From the panel (or `source`) to a point of the picture; outside of it removes. Returns the point."""
        before = None
        if source:
            before = self.page.evaluate(
                "c => { const b = document.querySelector(`.placed[data-c='${c}']`);"
                " return [parseFloat(b.style.left) / 100, parseFloat(b.style.top) / 100]; }",
                c,
            )
        selector = source or f"#icons .icon[data-c='{c}'] .tile"
        self.page.evaluate("() => window.scrollTo(0, 0)")
        box = self.page.evaluate(
            "s => { const r = document.querySelector(s).getBoundingClientRect();"
            " return [r.left, r.top, r.width, r.height]; }",
            selector,
        )
        rect = hand.look()[0]
        hand.path(box[0] + box[2] / 2, box[1] + box[3] / 2, self.rng, steps=self.manner.steps)
        t = hand.press()
        hand.ledger.add("drag_start", t, c=c, x=hand.ratio(0)[0], y=hand.ratio(0)[1])
        hand.dragging = True
        hand.path(rect[0] + point[0] * rect[2], rect[1] + point[1] * rect[3], self.rng, steps=self.manner.steps)
        hand.dragging = False
        x, y = hand.ratio(0)
        t = hand.release()
        if 0 <= x <= 1 and 0 <= y <= 1:
            hand.ledger.add("move_icon" if before else "add", t, c=c, x=x, y=y, start=before)
        else:
            hand.ledger.add("remove", t, c=c, start=before)
        hand.look()
        hand._note_move(t)  # what is under the pointer when the drag ends
        if hand.ledger.events[-1].k == "move":
            hand.ledger.events.pop()  # a release is no movement
        return x, y

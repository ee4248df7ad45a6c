"""What a listing holds: one item for each image, what was counted on the way, and what could not be used."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from data_prep.annotations.tables import Points
from data_prep.datasets.boxes import BoxSource, PixelBox
from data_prep.datasets.val_labels import ValLabels
from data_prep.problems import Reason
from data_prep.sources.tree import File, Source, Span
from luab_jax.data.dataset import Skipped

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
"""In any case."""


class Item(NamedTuple):
    """One listed image: 0.56 kB of memory with its byproduct and its archive's index, so 0.7 GB for 1.28 M images."""

    file_name: str
    """`<class>/<name>`, or `<group>/<class>/<name>`."""
    label: int
    image: Span
    xml: Span | None = None
    """The byproduct file."""
    boxes: tuple[PixelBox, ...] = ()
    box_xml: Span | None = None
    labels: tuple[int, ...] = ()
    group: str = ""
    mask: File | None = None
    points: Points = ()
    path: str = ""
    """Below the source of images, where it is not `file_name`."""
    xml_path: str = ""
    """Below the source of byproducts, where it is not `<key>.xml`."""
    box_path: str = ""
    """Below the source of boxes, where it is not `<key>.xml` or `<stem>.xml`."""

    @property
    def key(self) -> str:
        """`<class>/<stem>`, the name of its byproduct and boxes."""
        return "/".join(stem_of(self.file_name).rsplit("/", 2)[-2:])

    def __repr__(self) -> str:
        """All that the record depends on, and not how the input is packed."""
        mask = None if self.mask is None else self.mask.span
        return repr((*self[:8], mask, self.points))


@dataclass(slots=True)
class Listing:
    """What was found below the folders."""

    items: list[Any] = field(default_factory=list)
    """`Item`s of the layout."""
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[Skipped] = field(default_factory=list)
    reads: tuple[str, ...] = ()
    """What records depend on beside the items: `Plan.reads`."""
    examples: dict[str, str] = field(default_factory=dict)
    """One unmatched name of either side, for a message."""
    category_ids: dict[str, int] = field(default_factory=dict)
    """COCO: class name to category id, as the instances file has them."""

    def skip(self, file: str, reason: Reason, detail: str = "") -> None:
        """Lists something that is not used, so that the summary and --strict see it."""
        self.problems.append(Skipped(file=file, reason=reason, detail=detail))


GIVE_CLASSES = "give the right list with --classes=FILE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a split is made of, opened for reading; the roots of `images` and `byproducts` hold the class folders."""

    images: Source
    byproducts: Source | None = None
    points: dict[str, Points] = field(default_factory=dict)
    """Clicks from a table, by `<class>/<name>` or by name."""
    table: str | None = None
    """The table they are from."""
    boxes: BoxSource = field(default_factory=BoxSource)
    val_labels: ValLabels | None = None
    """Where the images lie flat."""
    remedy: str = GIVE_CLASSES
    """Where a folder is that of no class."""

    @property
    def sources(self) -> tuple[Source, ...]:
        return tuple(source for source in (self.images, self.byproducts, self.boxes.xml) if source is not None)

    @property
    def places(self) -> tuple[str, ...]:
        """What workers open."""
        return tuple(place for source in self.sources for place in source.places)

    def make_readable(self) -> None:
        """Unpacks what has so far been listed only."""
        for source in self.sources:
            source.make_readable()

    def discard(self, *, listing: bool = False) -> None:
        """Removes what was unpacked for reading; with `listing` the listings of archives too."""
        for source in self.sources:
            source.discard(listing=listing)


def stem_of(name: str) -> str:
    """Without the suffix, which every listed image has; pathlib would take ten times as long."""
    return name.rpartition(".")[0]

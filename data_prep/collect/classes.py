"""The classes that annotators are asked for: their names, synonyms and glosses, and the sets of the COCO page."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from luab_jax.data.class_lists import ClassList, imagenet
from luab_jax.data.coco_classes import CATEGORY_IDS
from luab_jax.errors import DataError, reason_of
from luab_jax.io.atomic import write_text

WORDNET = Path("/usr/share/wordnet/data.noun")
"""Of Debian's package wordnet-base, WordNet 3.0: the offset of a line is the number in a wnid."""

_COCO_SETS = {
    "PersonAccessory": (26, 33),
    "Animal": (16, 25),
    "Vehicle": (2, 9),
    "OutdoorObj": (10, 15),
    "Sports": (34, 43),
    "Kitchenware": (44, 51),
    "Food": (52, 61),
    "Furniture": (62, 71),
    "Appliance": (78, 83),
    "Electronics": (72, 77),
    "IndoorObjects": (84, 91),
}
"""The eleven sets of naver-ai/coco-annotation-tool, in its order: COCO's supercategories, by the first and last id.
Person, id 1, is in the first of them."""

_NAME = re.compile(r"(?:\\[\\,]|[^,])*")
"""Of several with commas between them; `\\,` is a comma and `\\\\` a backslash inside of one."""
_ESCAPED = re.compile(r"\\([\\,])")

_OWN_SET_SIZE = 10
"""Classes without a set of their own are shown in sets of so many, as most of the published ones are."""


@dataclass(frozen=True, slots=True)
class ClassInfo:
    """One class as the page shows it."""

    id: str
    name: str
    synonyms: tuple[str, ...] = ()
    gloss: str = ""
    set: str = ""
    """COCO page: the set in which its icon is."""


def read_classes(path: Path) -> list[ClassInfo]:
    """Lines `id TAB name[, synonyms] [TAB gloss [TAB set]]` in label order; raises `DataError`.

    A comma inside of a name is written `\\,`.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"{path}: cannot be read as a class list ({reason_of(e)}); expected lines `id TAB name`") from e
    classes = _parsed(text, path)
    if not classes:
        raise DataError(f"{path}: holds no class; expected lines `id TAB name`, in label order")
    seen: set[str] = set()
    for info in classes:
        if info.id in seen:
            raise DataError(f"{path}: class id {info.id!r} stands twice")
        seen.add(info.id)
    return classes


def _parsed(text: str, path: Path) -> list[ClassInfo]:
    classes = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) > 4:
            raise DataError(f"{path}:{number}: {len(fields)} fields; expected id, name, gloss and set, tabs between")
        class_id, names, gloss, name_of_set = (*fields, "", "", "")[:4]
        if not class_id:
            raise DataError(f"{path}:{number}: has no class id")
        name, *synonyms = _names(names) or [class_id]
        classes.append(ClassInfo(class_id, name, tuple(synonyms), gloss, name_of_set))
    return classes


def _names(text: str) -> list[str]:
    """Those between commas."""
    parts = (_ESCAPED.sub(r"\1", part).strip() for part in _NAME.findall(text))
    return [part for part in parts if part]


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace(",", "\\,")


def write_classes(classes: Iterable[ClassInfo], path: Path) -> None:
    """What `read_classes` reads; raises `DataError` for a class that no line of such a file can hold."""
    lines = []
    for info in classes:
        names = ", ".join(map(_escaped, (info.name, *info.synonyms)))
        lines.append("\t".join((info.id, names, info.gloss, info.set)).rstrip("\t") + "\n")
        if "\t" in info.id or _parsed(lines[-1], path) != [info]:
            raise DataError(
                f"class {info.id!r}: ids and names must have no tab, no end of line and no space around them; rename"
                " its folder, or give --classes=FILE with another id"
            )
    write_text(path, "".join(lines))


def class_list(classes: Iterable[ClassInfo]) -> ClassList:
    """Ids and names alone, as the other commands take them."""
    infos = tuple(classes)
    return ClassList(tuple(info.id for info in infos), tuple(info.name for info in infos))


def coco_classes() -> list[ClassInfo]:
    """COCO's 80, in label order."""
    set_of = {i: name for name, (first, last) in _COCO_SETS.items() for i in range(first, last + 1)}
    set_of[CATEGORY_IDS["person"]] = "PersonAccessory"
    return [ClassInfo(name, name, set=set_of[i]) for name, i in CATEGORY_IDS.items()]


def imagenet_classes(wordnet: Path = WORDNET) -> list[ClassInfo]:
    """The 1,000, with synonyms and gloss of WordNet; raises `DataError` where WordNet is not installed."""
    try:
        with wordnet.open("rb") as file:
            return [_from_wordnet(class_id, file) for class_id in imagenet().ids]
    except OSError as e:
        raise DataError(
            f"{wordnet}: names and glosses of the ImageNet classes come from WordNet 3.0 ({e.strerror});"
            " `apt-get install wordnet-base`, or give --classes=FILE with lines `wnid TAB name TAB gloss`"
        ) from e


def _from_wordnet(wnid: str, file) -> ClassInfo:
    """One line of data.noun: `offset file n count (word id)* pointers | gloss; "example"`."""
    file.seek(int(wnid[1:]))
    line = file.readline().decode("utf-8", "replace")
    if not line.startswith(wnid[1:]):
        raise DataError(f"{file.name}: holds no synset at {wnid[1:]}; WordNet 3.0 is needed (wordnet-base of Debian)")
    data, _, gloss = line.partition("|")
    fields = data.split()
    words = [word.replace("_", " ") for word in fields[4 : 4 + 2 * int(fields[3], 16) : 2]]
    return ClassInfo(wnid, words[0], tuple(words[1:]), gloss.split('; "')[0].strip())


def sets_of(classes: Iterable[ClassInfo]) -> list[tuple[str, list[ClassInfo]]]:
    """The sets of the COCO page: those that the classes name, in their first order, then the rest in tens."""
    infos = list(classes)
    named: dict[str, list[ClassInfo]] = {name: [] for name in _COCO_SETS} if _are_coco(infos) else {}
    for info in infos:
        if info.set:
            named.setdefault(info.set, []).append(info)
    rest = [info for info in infos if not info.set]
    tens = [rest[i : i + _OWN_SET_SIZE] for i in range(0, len(rest), _OWN_SET_SIZE)]
    extra = [(f"Set {number}", ten) for number, ten in enumerate(tens, 1)]
    return [(name, members) for name, members in named.items() if members] + extra


def _are_coco(classes: list[ClassInfo]) -> bool:
    return all(info.id in CATEGORY_IDS for info in classes)


def read_similar(path: Path, known: set[str]) -> dict[str, tuple[str, ...]]:
    """Lines `class TAB similar class[, ...]` for negative controls; raises `DataError`."""
    similar: dict[str, tuple[str, ...]] = {}
    for where, (class_id, others) in _pairs(path):
        names = tuple(_names(others))
        for name in (class_id, *names):
            if name not in known:
                raise DataError(f"{where}: {name!r} is no class of this project")
        similar[class_id] = names
    return similar


def _pairs(path: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.reader(file, delimiter="\t"), 1):
                if row:
                    if len(row) != 2:
                        raise DataError(f"{path}:{number}: expected `class TAB similar classes`")
                    yield f"{path}:{number}", (row[0].strip(), row[1])
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise DataError(f"{path}: cannot be read as a list of similar classes ({reason_of(e)})") from e

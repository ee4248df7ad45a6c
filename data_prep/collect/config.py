"""What the owner of a collection decides, kept as `project.toml` in the project's folder.

Read with the standard library's `tomllib`. It has no writer, and the values are flat tables of texts, numbers and
lists, so the few lines of `dumps` do.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from luab_jax.errors import ConfigError

TaskKind = Literal["imagenet", "coco"]
TASKS: tuple[TaskKind, ...] = ("imagenet", "coco")
PLATFORMS = ("none", "mturk", "prolific")
SIMULATED = "simulated"
"""The platform of annotators that `collect simulate` made up, in the database."""
SQLITE = "sqlite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """The text that an annotator agrees to before anything is recorded. Raise `version` when you change it."""

    version: str = "1"
    title: str = "Before you start"
    who: str = "This study is run by the owner of this page."
    what: str = (
        "The page records what you do on it: the position of your pointer over the pictures, your clicks, drags and key"
        " presses, and the time of each. It records nothing outside this page, and no name, address or IP address."
    )
    purpose: str = "The records are used to train and to study image recognition models."
    duration: str = "The records are kept until the study is finished and published."
    release: str = (
        "They may be published without anything that identifies you; your account id is replaced by a random-looking"
        " code."
    )
    withdrawal: str = "You may stop at any time, and withdraw your work with the button at the bottom of the page."

    def items(self, contact: str) -> list[dict[str, str]]:
        """Heading and text of each paragraph."""
        headings = {
            "who": "Who runs this",
            "what": "What is recorded",
            "purpose": "What it is for",
            "duration": "How long it is kept",
            "release": "Publication",
            "withdrawal": "Withdrawal",
        }
        items = [{"heading": heading, "text": getattr(self, name)} for name, heading in headings.items()]
        return [*items, {"heading": "Contact", "text": contact}] if contact else items


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """When an annotator is held until the owner has looked."""

    min_control_score: float = 0.6
    """Share of hidden controls answered as expected; 0 switches it off."""
    after_controls: int = 12
    """Not judged before so many controls."""
    practice_pass: float = 0.8
    """Share of the practice page to be right."""
    practice_tries: int = 0
    """An annotator who fails more often is held; 0: any number of tries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """Values of the crowdsourcing platforms."""

    prolific_code: str = ""
    """The completion code that Prolific shows when a study is made."""
    mturk_sandbox: bool = True
    """Whether `invite` prints the link for MTurk's sandbox; the page takes both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One project."""

    title: str
    task: TaskKind
    images: str
    """Folder or archive, absolute, or a bucket."""
    classes: str
    """`imagenet`, `coco`, or `own`: the list is then in the project's `classes.txt`."""
    db: str = SQLITE
    """`sqlite`, or the address of a PostgreSQL database."""
    instances: str = ""
    """COCO's instances file, if there is one: image ids, practice and known boxes."""
    contact: str = ""
    instructions: tuple[str, ...] = ()
    """Paragraphs shown above the pages' own."""
    content_warning: str = ""
    lease_minutes: int = 30
    pages_per_visit: int = 0
    """Pages of one platform assignment; 0: the published HITs' 10 (imagenet) or 20 (coco) on platforms, else no end."""
    breadth_first: bool = False
    """Whether every page is shown once before any is shown twice."""
    practice: bool = True
    coalesced: bool = False
    """Whether the page records every position that the device reported between two frames."""
    max_page_bytes: int = 20 << 20
    max_page_samples: int = 200_000
    link_days: int = 60
    """How long an invitation works."""
    consent: Consent = field(default_factory=Consent)
    quality: Quality = field(default_factory=Quality)
    platform: Platform = field(default_factory=Platform)

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ConfigError(f"task = {self.task!r}: expected one of {', '.join(TASKS)}")
        if self.db != SQLITE and not re.match(r"postgres(ql)?://", self.db):
            raise ConfigError(f"db = {self.db!r}: expected `{SQLITE}` or postgresql://USER@HOST/NAME")
        for name in ("lease_minutes", "link_days", "max_page_bytes", "max_page_samples"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}: expected at least 1")
        if self.pages_per_visit < 0:
            raise ConfigError(f"pages_per_visit = {self.pages_per_visit}: expected 0 (no end) or more")

    @property
    def pages_per_hit(self) -> int:
        """Of the published collections (collection.md §3)."""
        return 10 if self.task == "imagenet" else 20

    def quota(self, platform: str) -> int | None:
        """How many pages make a visit; `None` where there is no end."""
        if self.pages_per_visit:
            return self.pages_per_visit
        return None if platform in ("none", SIMULATED) else self.pages_per_hit


_TABLES = {"consent": Consent, "quality": Quality, "platform": Platform}


def loads(text: str, where: str) -> Config:
    """A config from TOML; raises `ConfigError` naming file and field."""
    try:
        values: dict[str, Any] = tomllib.loads(text)
        for name, table in _TABLES.items():
            if name in values:
                values[name] = _typed(table, values[name], f"{where}: [{name}]")
        return _typed(Config, values, where)
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{where}: not TOML ({e})") from e
    except ConfigError as e:
        raise ConfigError(str(e) if str(e).startswith(where) else f"{where}: {e}") from e


def _typed(cls: type, values: Any, where: str) -> Any:
    """An instance of a dataclass, with every field known and of the type of its default."""
    fields = {f.name: f for f in dataclasses.fields(cls)}
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: expected a table")
    if unknown := values.keys() - fields.keys():
        raise ConfigError(f"{where}: unknown field {sorted(unknown)[0]!r}; known are {', '.join(fields)}")
    checked = {}
    for name, value in values.items():
        default = fields[name].default
        wanted = str if default is dataclasses.MISSING else type(default)
        if wanted is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if name == "instructions":
            wanted, value = tuple, tuple(value) if isinstance(value, list) else value
        if name not in _TABLES and not (isinstance(value, wanted) and isinstance(value, bool) == (wanted is bool)):
            raise ConfigError(f"{where}: {name} = {value!r}: expected {wanted.__name__}")
        checked[name] = value
    try:
        return cls(**checked)
    except TypeError as e:
        raise ConfigError(f"{where}: {e}") from e


def dumps(config: Config) -> str:
    """As TOML that `loads` reads."""
    lines, tables = [], []
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            tables += ["", f"[{f.name}]"]
            tables += [f"{g.name} = {_text(getattr(value, g.name))}" for g in dataclasses.fields(value)]
        else:
            lines.append(f"{f.name} = {_text(value)}")
    return "\n".join([*lines, *tables]) + "\n"


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_text, value)) + "]"
    # A JSON string is a TOML basic string; DEL is the one character that only TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def replace(config: Config, **values: Any) -> Config:
    """The same config with other values, checked."""
    return dataclasses.replace(config, **values)


def read(path: Path) -> Config:
    """Raises `ConfigError` for a file that cannot be read or makes no sense."""
    try:
        return loads(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as e:
        reason = getattr(e, "strerror", None) or e
        raise ConfigError(f"{path}: cannot be read ({reason}); make a project with `collect init`") from e

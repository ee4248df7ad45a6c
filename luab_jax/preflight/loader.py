"""What the loader of this machine gives beside what each host of a topology needs, before the hosts are paid for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from luab_jax.config import Config
from luab_jax.data.dataset import open_split
from luab_jax.data.input_speed import InputSpeed
from luab_jax.errors import option
from luab_jax.io import storage
from luab_jax.training.batches import reading
from luab_jax.training.input_check import probe, root_of

PROBE_S = 10.0
"""Long enough that the batches which were ready at its beginning are a small part."""


@dataclass(frozen=True, slots=True)
class Input:
    """Of one experiment."""

    name: str
    seconds: float
    """For which the loader was tried."""
    speed: InputSpeed
    where: str
    """What was read."""

    def lines(self) -> list[str]:
        """What was tried, and the verdict."""
        tried = f"{self.name}: the loader of this machine was tried for {self.seconds:g} s on {self.where}"
        return [tried, self.speed.line()]

    def to_json(self) -> dict[str, Any]:
        speed = self.speed
        return {
            "seconds": self.seconds,
            "where": self.where,
            "images_per_s": speed.given,
            "needed_per_host": speed.needed,
            "binds": speed.binds,
            "cores_needed": speed.cores_needed(),
            "reading": asdict(speed.reading),
            "verdict": speed.line(),
        }


class Prober:
    """Tries the loader of each experiment; once for those that read in the same way."""

    def __init__(self, seconds: float):
        """seconds: For which each is tried; 0 tries nothing."""
        self._seconds = seconds
        self._given: dict[str, float] = {}

    def __call__(self, name: str, config: Config, needed: float | None) -> Input | None:
        """None without data, or without time for it.

        needed: Images/s of a host, where it is known.
        """
        if not self._seconds or not config.data.root:
            return None
        key = repr((config.data, config.augmentation.crops_in_a_row, config.task, config.byproduct.label_follows_point))
        if key not in self._given:
            self._given[key] = probe(config, open_split(config.data.root, config.data.train_split), self._seconds)
        speed = InputSpeed(needed=needed, given=self._given[key], reading=reading(config), root=root_of(config))
        copied = config.data.cache and storage.is_remote(config.data.root)
        where = f"a copy of one shard of {config.data.root}, as from a full cache" if copied else config.data.root
        return Input(name, self._seconds, speed, where)


def without_data() -> str:
    """What it takes to try the loader."""
    return (
        f"input: not tried: {option('config.data.root')}=DIR names prepared data, from which {PROBE_S:g} s tell what"
        " the loader of this machine gives"
    )

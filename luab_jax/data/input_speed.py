"""How many images a host's loader gives a second, and what to do where that is too few."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

from luab_jax.data.reading import Reading, num_cores
from luab_jax.io import storage

_ENOUGH = 1.1
"""How much more the loader must give than is needed, so that its slow moments do not show."""


class Meter:
    """Counts images as they are made and the time of those who make them: what the loader could give, busy or not."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._images = 0
        self._seconds = 0.0

    def count(self, images: int, seconds: float) -> None:
        """Some images that one thread or worker made in so many seconds."""
        with self._lock:
            self._images += images
            self._seconds += seconds

    def images_per_s(self, parallel: int) -> float | None:
        """Of so many threads or workers together, in the company that they had; None before the first image."""
        with self._lock:
            return parallel * self._images / self._seconds if self._seconds else None


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpeed:
    """What a host needs and what its loader gives, images/s."""

    needed: float | None
    """None where nobody knows how long a step takes."""
    given: float
    reading: Reading
    root: str
    """Of the data; nothing where a cache stands before it."""

    @property
    def binds(self) -> bool | None:
        """Whether the devices would wait for the loader."""
        return None if self.needed is None else self.given < _ENOUGH * self.needed

    def line(self) -> str:
        """One line: both numbers, which of the two binds, and the remedy."""
        who = f"{self.reading.parallel} worker(s)" if self.reading.num_workers else f"{self.reading.parallel} thread(s)"
        gives = f"{who} on {num_cores()} core(s) give {self.given:,.0f} images/s"
        if self.needed is None:
            return f"input: {gives}"
        text = f"input: the step takes {self.needed:,.0f} images/s a host, {gives}: "
        if not self.binds:
            return text + "the devices bind"
        cores = self.cores_needed()
        wanted = "" if cores is None else f" (at this rate {cores:,} cores a host, with as many workers, are enough)"
        return f"{text}the input binds; {self.remedy()}{wanted}"

    def cores_needed(self) -> int | None:
        """Cores like those of this machine at which a host would not wait, one worker each; None where nobody knows.

        From a bucket without a cache the requests decide, not the cores, and with a GPU that decodes nobody knows.
        """
        if self.needed is None or not self.given or storage.is_remote(self.root) or self.reading.on_gpu:
            return None
        return math.ceil(_ENOUGH * self.needed * min(self.reading.parallel, num_cores()) / self.given)

    def remedy(self) -> str:
        """The first that has not been taken."""
        if storage.is_remote(self.root):
            return "keep whole shards on a disk of the host: --config.data.cache=DIR"
        if self.reading.on_gpu and num_cores() > 2:
            return "decode in processes instead: --config.data.decoder=cpu --config.data.workers=-1, in a new workdir"
        if not self.reading.num_workers and num_cores() > 2:
            return "decode in processes: --config.data.workers=-1"
        if self.reading.parallel < num_cores():
            return "take all cores: --config.data.workers=-1"
        return (
            "take a host with more cores, store the images smaller (--max_side of data_prep), or decode faster:"
            " --config.data.crop_filter=bilinear_plain"
        )

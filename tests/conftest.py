"""Eight CPU devices for every test, set before jax is imported; absl flags usable without an absl app.

They compile what is `QUICK_TO_COMPILE`; the commands that `tests.e2e.test_evaluation` and `tools.faults` start compile
as a user's.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import tempfile
from collections.abc import Iterator
from typing import Any, ClassVar

from tests.xla_flags import QUICK_TO_COMPILE

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = " ".join(
    (QUICK_TO_COMPILE, os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=8")
)

# gcsfs would ask a service of gRPC for the kind of a bucket, which no emulator has; it decides as it is imported.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"

# One folder of compiled programs for all tests and the processes that they start, pytest-xdist's workers among them:
# most train the same tiny network.
if "LUAB_JAX_TEST_CACHE" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix="luab_jax_test_cache_")
    os.environ["LUAB_JAX_TEST_CACHE"] = _CACHE.name
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ["LUAB_JAX_TEST_CACHE"]
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
# A process that a test kills may leave half an entry there, of which every later one would say so.
os.environ["PYTHONWARNINGS"] = ",".join(
    filter(None, (os.environ.get("PYTHONWARNINGS"), "ignore:Error reading persistent compilation cache:UserWarning"))
)

# Where Python is told to write no bytecode beside its sources (many containers), each of the hundreds of processes that
# tests start would compile jax anew, 2-7 s each time: the first leaves it here.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
    os.environ["PYTHONPYCACHEPREFIX"] = f"{os.environ['LUAB_JAX_TEST_CACHE']}/bytecode"

import pytest
from absl import flags
from etils.epath import backend as etils_backend
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import settings

# The same inputs in every run, so that a run that fails has a reason in the change; new ones are `tools.fuzz`'s part.
settings.register_profile("same_inputs", derandomize=True, database=None, deadline=None)
settings.load_profile("same_inputs")

# Tracing makes millions of objects that stay: at Python's thresholds the collector looks at them over and over.
gc.set_threshold(50_000, 20, 20)

if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()


LONGEST = ("e2e", "benchmarks", "tools", "data_prep/collect/browser", "training")
"""Folders whose files go first, so that no worker is left alone with a long one at the end."""


def pytest_configure(config: pytest.Config) -> None:
    """pytest-xdist would give out files by their number of tests, the few long ones last."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: those tests that drive a browser wait for two thirds of their time."""
    if asked := os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return int(asked)
    return (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def folder(item: pytest.Item) -> int:
        place = item.nodeid.removeprefix("tests/")
        return next((i for i, name in enumerate(LONGEST) if place.startswith(f"{name}/")), len(LONGEST))

    items.sort(key=folder)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """SIGINT interrupts this process and those that it starts, also where the tests were started with it ignored.

    `nohup make test &` in a script and many CI runners do so, and what is ignored is inherited.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def orbax_gives_up() -> Iterator[None]:
    """For tests in which Orbax cannot read a checkpoint: it leaves coroutines behind that nobody awaited, and Python
    would say so in whichever test it collects them. For use with a filter of `PytestUnraisableExceptionWarning`."""
    yield
    gc.collect()


@pytest.fixture
def bucket_in_memory() -> Iterator[MemoryFileSystem]:
    """`gs://` on fsspec's file system in memory, in this process: the file system, to look into.

    Orbax's arrays go through tensorstore, which has requests of its own, and are not to be had here.
    """

    class Buckets(MemoryFileSystem):
        protocol = ("gs", "gcs")
        store: ClassVar[dict[str, Any]] = {}
        pseudo_dirs: ClassVar[list[str]] = [""]

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return super()._strip_protocol(path.removeprefix("gs://").removeprefix("gcs://"))

    registered: dict[str, Any] = importlib.import_module("fsspec.registry")._registry
    before = {name: registered.pop(name, None) for name in Buckets.protocol}
    registered |= dict.fromkeys(Buckets.protocol, Buckets)
    of_etils = etils_backend._FileSystemSpecBackend._get_filesystem  # type: ignore[attr-defined]
    of_etils.cache_clear()  # it keeps the file system of a scheme
    yield Buckets()
    of_etils.cache_clear()
    for name, implementation in before.items():
        registered.pop(name)
        if implementation is not None:
            registered[name] = implementation

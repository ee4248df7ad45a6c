"""A host that vanishes or fails ends the others with its name; one that is done does not.

Both hosts are objects of this process on one store; `tools.faults` has real ones.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from typing import NoReturn

import jax
import pytest

from luab_jax.distributed import watchdog
from luab_jax.distributed.watchdog import WatchedHosts
from luab_jax.errors import DataError, ExitCode


class Store:
    """What of jax's key-value store is used."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None:
        assert allow_overwrite
        self.values[key] = value

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]:
        return [(name, value) for name, value in dict(self.values).items() if name.startswith(key)]


LEFT = jax.errors.JaxRuntimeError("left")
"""As the thread that watches meets it when the store is gone, and ends."""


class Host(WatchedHosts):
    """Notes how it would have left the process."""

    def __init__(self, store: Store, number: int, num_hosts: int = 2, timeout_s: int = 1):
        super().__init__(timeout_s)
        self._store, self._host, self._num_hosts = store, number, num_hosts
        self.left: tuple[ExitCode, str] | None = None
        self.left_after: list[int] = []

    def _leave(
        self, code: ExitCode, message: str, lost: Collection[int] = (), *, store_answers: bool = True
    ) -> NoReturn:
        self.left = self.left or (code, message)
        super()._leave(code, message, lost, store_answers=store_answers)

    def _exit(self, code: ExitCode) -> NoReturn:
        self._ended.set()
        self.left_after = sorted(name for name in self._store.values if "/left/" in name)
        raise LEFT

    def join(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_GRACE_S", 0.2)


def test_a_lost_host_is_named_and_the_run_may_be_resumed() -> None:
    store = Store()
    store.key_value_set("luab_jax/alive/1", "7", allow_overwrite=True)
    first = Host(store, 0)
    first.__enter__()
    first.join()
    assert first.left is not None
    code, message = first.left
    assert code is ExitCode.STOPPED_RESUMABLE
    assert message.startswith("host 2 of 2 was lost: no sign of life for 1 s.") and "resumes" in message


def test_hosts_that_live_lose_nobody_and_one_that_is_done_is_not_lost() -> None:
    store = Store()
    first, second = Host(store, 0, timeout_s=2), Host(store, 1, timeout_s=2)
    first.__enter__()
    second.__enter__()
    time.sleep(3)
    second.__exit__(None, None, None)
    second.join()
    time.sleep(3)
    first.__exit__(None, None, None)
    first.join()
    assert first.left is None and second.left is None


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (DataError("a.tfrecord: record 3 is damaged"), ExitCode.FAILED, "a.tfrecord: record 3 is damaged"),
        (KeyboardInterrupt(), ExitCode.STOPPED_RESUMABLE, "interrupted; the same command"),
        (ZeroDivisionError("our bug"), ExitCode.FAILED, "ZeroDivisionError: our bug"),
    ],
)
def test_the_error_of_one_host_is_told_by_the_others(error: BaseException, code: ExitCode, words: str) -> None:
    store = Store()
    first, second = Host(store, 0, timeout_s=30), Host(store, 1, timeout_s=30)
    first.__enter__()
    second.__enter__()
    with pytest.raises(jax.errors.JaxRuntimeError, match="left"):
        second.__exit__(type(error), error, None)
    first.join()
    assert second.left is not None and first.left is not None
    assert second.left[0] == first.left[0] == code
    assert first.left_after == ["luab_jax/left/0", "luab_jax/left/1"], (
        "the host with the store left before the other one"
    )
    assert second.left[1].startswith(f"host 2 of 2: {words}")
    assert first.left[1].startswith(f"host 2 of 2 stopped: {words}")
    second._ended.set()


def test_what_a_lost_host_breaks_is_told_as_its_loss() -> None:
    """The collective fails at once on the hosts that are left, with words that name nobody."""
    store = Store()
    store.key_value_set("luab_jax/alive/1", "7", allow_overwrite=True)
    first = Host(store, 0)
    first.__enter__()
    error = jax.errors.JaxRuntimeError("Connection closed by peer")
    with pytest.raises(jax.errors.JaxRuntimeError, match="left"):
        first.__exit__(type(error), error, None)
    assert first.left is not None and first.left[1].startswith("host 2 of 2 was lost")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_loss_of_the_store_is_the_loss_of_the_first_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*arguments: object, **options: object) -> NoReturn:
        raise jax.errors.JaxRuntimeError("UNAVAILABLE: Socket closed\nand more")

    store = Store()
    second = Host(store, 1)
    monkeypatch.setattr(store, "key_value_set", gone)
    second.__enter__()
    second.join()
    assert second.left is not None and second.left[0] is ExitCode.STOPPED_RESUMABLE
    assert second.left[1].startswith("host 1 of 2, which keeps the store, was lost (UNAVAILABLE: Socket closed).")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_store_that_does_not_answer_is_the_loss_of_the_first_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when its machine lost power: no connection is closed, and calls do not return."""
    answers = threading.Event()
    store = Store()
    second = Host(store, 1)
    monkeypatch.setattr(store, "key_value_set", lambda *arguments, **options: answers.wait(30))
    second.__enter__()
    second._second.join(20)
    answers.set()
    assert second.left is not None and second.left[0] is ExitCode.STOPPED_RESUMABLE
    assert second.left[1].startswith("host 1 of 2, which keeps the store, was lost: no answer for")


def test_a_single_host_watches_nobody() -> None:
    with pytest.raises(DataError), WatchedHosts(1) as watched:
        assert not watched._thread.is_alive()
        raise DataError("as ever")

"""Only a reader that left our stdout ends a command in silence."""

from __future__ import annotations

import pytest

from luab_jax.io.stdout import quiet_when_unread


def test_another_broken_pipe_is_an_error_as_any() -> None:
    with pytest.raises(BrokenPipeError), quiet_when_unread():
        raise BrokenPipeError(32, "the pipe of a worker")


def test_the_exit_code_of_what_was_read_is_kept() -> None:
    with pytest.raises(SystemExit) as end, quiet_when_unread():
        raise SystemExit(3)
    assert end.value.code == 3

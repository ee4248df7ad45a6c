"""What is kept of an error."""

from __future__ import annotations

import pytest

from luab_jax.errors import UserError, without_frames


def test_no_error_of_a_chain_keeps_its_frames() -> None:
    """Nor does a chain whose end leads back to its beginning."""
    with pytest.raises(UserError) as caught:
        try:
            try:
                {}["absent"]
            except KeyError:
                int("no number")
        except ValueError as e:
            raise UserError("a field is wrong") from e
    error = caught.value
    number = error.__cause__
    assert isinstance(number, ValueError)
    key = number.__context__
    assert isinstance(key, KeyError)
    key.__context__ = error
    assert all(of.__traceback__ is not None for of in (error, number, key))
    assert without_frames(error) is error and error.__cause__ is number and number.__context__ is key
    assert all(of.__traceback__ is None for of in (error, number, key))

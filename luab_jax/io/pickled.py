"""What torch.save writes, told by its first bytes: nothing here unpickles."""

from __future__ import annotations


def is_pickled(content: bytes) -> bool:
    """What torch.save writes: a zip file with a pickle in it, or, before torch 1.6, a bare pickle of protocol 2."""
    return content.startswith((b"PK\x03\x04", b"\x80\x02"))

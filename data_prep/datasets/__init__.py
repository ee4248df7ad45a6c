"""One file per raw layout: which images there are, and how one of them becomes a record."""

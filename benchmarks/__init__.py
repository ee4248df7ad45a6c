"""Measurements against what others use; run by hand, see README.md."""

import tools  # noqa: F401  (which tells in one line of a package that is missing)

"""Measurements against what others use; run by hand, see README.md."""

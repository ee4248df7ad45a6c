"""Exact means and average precision."""

"""Evaluation suites out of a prepared split: backgrounds exchanged, corrupted, occluded, resized, moved and turned."""

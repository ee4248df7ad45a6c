"""Annotation files from outside, read into byproduct records."""

"""Checkpoints: written and verified by a run, loaded by everything else."""

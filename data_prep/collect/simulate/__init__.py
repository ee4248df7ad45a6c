"""Simulated annotators, at the level of the protocol: for rehearsals, load and faults."""

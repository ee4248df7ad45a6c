"""One experiment: from a config to a step, the loop around it, and what a run leaves."""

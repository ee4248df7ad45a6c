"""Real runs, interrupted and damaged in every way we know of: `python -m tools.faults`; see README.md."""

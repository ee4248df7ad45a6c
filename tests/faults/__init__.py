"""Real runs, interrupted and damaged in every way we know of: `python -m tests.faults`; see README.md."""

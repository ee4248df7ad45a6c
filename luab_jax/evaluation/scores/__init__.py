"""One file per kind of score; each takes predictions and truths of whole sets, as numpy arrays."""

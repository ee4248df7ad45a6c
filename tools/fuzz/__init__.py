"""Readers of files from outside, fed with damaged input: `python -m tools.fuzz`; see data_prep/README.md."""

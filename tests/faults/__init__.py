"""Readers of files from outside, fed with damaged input: `python -m tests.fuzz`; see data_prep/README.md."""

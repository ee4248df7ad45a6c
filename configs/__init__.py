"""One experiment per file; each has `get_config()`, the files share `base`."""

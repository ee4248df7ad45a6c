"""Files in folders and buckets, the terminal, threads."""

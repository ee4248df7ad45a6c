"""Prepared shards in, batches out."""

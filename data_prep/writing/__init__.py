"""From records to a published split: shards, workers, metadata, summary."""

"""From what people downloaded to shards: the only code that reads raw files, and the only code that writes shards."""

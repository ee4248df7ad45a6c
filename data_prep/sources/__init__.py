"""What people downloaded, as trees of named files: folders, archives, buckets."""

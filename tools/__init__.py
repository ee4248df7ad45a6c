"""Programs for maintainers that the documents name."""

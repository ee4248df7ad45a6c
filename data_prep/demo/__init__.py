"""The drawn demo data."""

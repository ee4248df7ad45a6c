"""The web server: pages, the annotators' and the owner's JSON, pictures."""

"""What a compiled program says of memory, work and communication before it ever ran, and what follows for a run."""

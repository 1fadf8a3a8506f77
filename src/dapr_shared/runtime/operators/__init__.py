"""The operators' door: a Unix socket in the data directory that only its user can open, and what it answers."""

"""Resources as frozen data: read from YAML, compared, watched. What they mean is decided elsewhere."""

"""A folder of this machine that apps keep files in."""

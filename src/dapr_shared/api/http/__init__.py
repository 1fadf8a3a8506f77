"""The HTTP front door: routes, and one module a block that turns requests into block calls."""

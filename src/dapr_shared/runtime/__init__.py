"""The composition root: settings, assembly, lifecycle, reload. It alone may see everything; it decides nothing."""

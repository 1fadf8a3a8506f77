"""HTTP: endpoints that apps call by name."""

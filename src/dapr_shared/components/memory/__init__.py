"""Backends that live in this process and end with it."""

"""Backends of the building blocks: the catalog of types, the registry of what is open, one package a backend."""

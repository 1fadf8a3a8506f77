"""dapr-shared: Dapr's building blocks for many applications from one process."""

__version__ = "0.1.0"

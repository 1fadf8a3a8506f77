"""The bindings block: apps call external systems, and external systems call apps."""

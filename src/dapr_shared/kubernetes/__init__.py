"""Cluster mode: what the API server knows (custom resources, annotated Services and Pods) becomes resources."""

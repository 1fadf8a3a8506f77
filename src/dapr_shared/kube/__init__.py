"""The Kubernetes API server: a client, informers, a lease, token reviews, Events. Knows nothing of Dapr."""

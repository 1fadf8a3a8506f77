"""What a Kubernetes cluster offers as components: its Secrets."""

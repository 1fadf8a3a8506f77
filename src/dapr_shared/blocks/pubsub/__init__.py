"""The pubsub block: publishing, and bringing messages to apps that come and go."""

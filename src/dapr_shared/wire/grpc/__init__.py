"""gRPC engines behind one small interface."""

"""The gRPC front door: the method table, and one module a block that turns messages into block calls."""

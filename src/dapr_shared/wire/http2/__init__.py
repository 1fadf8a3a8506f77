"""HTTP/2 of our own, for gRPC: first step of the request road and last step of both."""

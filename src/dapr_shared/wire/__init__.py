"""Step 1 of both roads, bytes only: HTTP/1.1 server and client on httptools, gRPC server and client engines."""

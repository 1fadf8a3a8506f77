"""To apps that other instances and daprd sidecars serve: step 6c of the request road, over internal gRPC."""

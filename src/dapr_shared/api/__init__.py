"""Step 1 of the request road, the front doors: HTTP and gRPC bytes become block calls and back. They decide nothing."""

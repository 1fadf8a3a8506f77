"""HTTP/1.1 as a server and towards apps, on httptools."""

"""Components of other programs, in any language, by Dapr's protocol for pluggable components on Unix sockets."""

"""What operators see: metrics, traces, log lines, named events. Beside both roads; imports `core` alone."""

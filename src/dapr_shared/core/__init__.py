"""What everything else stands on: the error table, identifiers, the clock, durations. Imports nothing of ours."""

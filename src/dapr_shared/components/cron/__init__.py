"""Cron: a clock that calls apps."""

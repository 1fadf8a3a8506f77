"""The command line: arguments become `Settings`, nothing else."""

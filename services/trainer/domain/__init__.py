"""What feedback teaches, which of it becomes a data set, and when one is worth a run."""

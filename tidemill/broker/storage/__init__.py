"""What lies on disk: record batches in segments, and a journal for everything else."""

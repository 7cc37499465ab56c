"""What a good answer, a fair comparison and a legal release change are; no I/O."""

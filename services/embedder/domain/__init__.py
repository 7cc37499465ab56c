"""What exactly is embedded."""

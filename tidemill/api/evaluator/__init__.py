"""Generated; run `make proto`."""

"""Mistakes that projects of this kind make, each planted into the real code for one run."""

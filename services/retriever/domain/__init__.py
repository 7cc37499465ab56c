"""What is visible to whom, by which name, in which form."""

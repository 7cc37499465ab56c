"""Dead letters: written with the inbox row, read without a group, replayed or dropped by people."""

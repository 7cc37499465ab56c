"""The demonstration: the whole loop on the example handbook, through public interfaces only."""

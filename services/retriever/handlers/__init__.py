"""What the retriever does with events, calls and the clock."""

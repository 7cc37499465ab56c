"""Pure rules of answering: prompts, releases, and what may leave."""

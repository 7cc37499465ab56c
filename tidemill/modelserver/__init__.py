"""The model server: a Triton with an LLM and an embedder, its supervisor and its only client."""

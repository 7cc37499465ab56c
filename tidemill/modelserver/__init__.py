"""The model server: Triton with an LLM and an embedder, its set-up, its supervisor and its only client."""

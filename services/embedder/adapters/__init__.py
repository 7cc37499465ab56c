"""The embedder's way to the model server."""

"""Embedder turns text into vectors.

Consumes: documents.chunked.
Serves: EmbedderService (embed).
Emits: chunks.embedded, one event a document version.
Owns: nothing; the model is the model server's.
"""

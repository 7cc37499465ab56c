"""Retriever finds the passages that may hold an answer.

Consumes: chunks.embedded, documents.retired.
Serves: RetrieverService (search, describe the index).
Emits: documents.indexed.
Owns: Milvus, and the rows that say which version of a document is in force.
"""

"""Ingest takes documents in.

Consumes: documents.submitted, documents.withdrawn, documents.indexed.
Serves: IngestService (submit, get, list, withdraw).
Emits: documents.chunked, documents.rejected, documents.retired, and documents.submitted and
documents.withdrawn for its RPC callers.
Owns: the versions of every document and where each stands; no text of any document.
"""

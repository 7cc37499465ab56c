"""One module a media type: bytes in, sections out."""

"""Files to documents: which files, under which id, of which media type."""

from dataclasses import dataclass
from pathlib import Path

from tidemill.cli.output import CommandFailed

MEDIA_TYPES = {
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".html": "text/html",
    ".htm": "text/html",
    ".txt": "text/plain",
    ".pdf": "application/pdf",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
}
MAX_BYTES = 10 * 1024 * 1024


@dataclass(frozen=True)
class DocumentFile:
    """A file that will be submitted."""

    path: Path
    document_id: str
    media_type: str


def collect(paths: list[Path]) -> list[DocumentFile]:
    """Files of the paths; a folder gives all it holds of a known type, named by relative path."""
    files: list[DocumentFile] = []
    for path in paths:
        if path.is_dir():
            known = (p for p in sorted(path.rglob("*")) if p.suffix.lower() in MEDIA_TYPES)
            files += [describe(p, str(p.relative_to(path).with_suffix(""))) for p in known]
        elif path.is_file():
            files.append(describe(path, path.stem))
        else:
            raise CommandFailed("FILE_NOT_FOUND", f"{path} is no file or folder", 2)
    if not files:
        raise CommandFailed("NO_DOCUMENTS", "no Markdown, HTML, text, PDF or DOCX file there", 2)
    return files


def describe(path: Path, document_id: str) -> DocumentFile:
    media_type = MEDIA_TYPES.get(path.suffix.lower())
    if media_type is None:
        hint = f"{path}: use .md, .html, .txt, .pdf or .docx"
        raise CommandFailed("MEDIA_TYPE_UNSUPPORTED", hint, 2)
    if path.stat().st_size > MAX_BYTES:
        raise CommandFailed("DOCUMENT_TOO_LARGE", f"{path}: the limit is 10 MiB; split it", 2)
    return DocumentFile(path, document_id, media_type)

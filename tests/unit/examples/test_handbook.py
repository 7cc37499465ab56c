"""The example handbook: documents, questions, splits, personal data and built files agree."""

import importlib.util
import json
import re
import sys
import zipfile
from collections import Counter
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from docx import Document
from pypdf import PdfReader
from pypdf.errors import PyPdfError

HANDBOOK = Path(__file__).resolve().parents[3] / "examples" / "handbook"
SPLITS = ("feedback_pool.jsonl", "held_out.jsonl")
QUESTION_FIELDS = {
    "question_id",
    "question",
    "answer",
    "document_id",
    "fact_id",
    "answerable",
}
MEDIA_TYPES = {
    ".md": "text/markdown",
    ".html": "text/html",
    ".txt": "text/plain",
    ".pdf": "application/pdf",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
}

Row = dict[str, Any]


def rows(name: str) -> list[Row]:
    lines = (HANDBOOK / name).read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def pool() -> list[Row]:
    return rows("feedback_pool.jsonl")


def held_out() -> list[Row]:
    return rows("held_out.jsonl")


class VisibleText(HTMLParser):
    """Collects the text of a page without scripts, styles and navigation."""

    HIDDEN = frozenset({"script", "style", "nav", "header", "footer", "aside", "title"})

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self.hidden_depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hidden_depth += tag in self.HIDDEN

    def handle_endtag(self, tag: str) -> None:
        self.hidden_depth -= tag in self.HIDDEN
        self.pieces.append(" ")

    def handle_data(self, data: str) -> None:
        if not self.hidden_depth:
            self.pieces.append(data)


def extracted(path: Path) -> str:
    if path.suffix == ".pdf":
        return "\n".join(page.extract_text() for page in PdfReader(path).pages)
    if path.suffix == ".docx":
        document = Document(str(path))
        cells = (cell for table in document.tables for row in table.rows for cell in row.cells)
        return "\n".join(part.text for part in (*document.paragraphs, *cells))
    if path.suffix == ".html":
        parser = VisibleText()
        parser.feed(path.read_text("utf-8"))
        return "".join(parser.pieces)
    return path.read_text("utf-8")


def normalised(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().lower()


@cache
def texts() -> dict[str, str]:
    return {
        row["document_id"]: extracted(HANDBOOK / row["path"]) for row in rows("documents.jsonl")
    }


@cache
def plain_texts() -> dict[str, str]:
    return {document: normalised(text) for document, text in texts().items()}


def documents_with(answer: str) -> list[str]:
    """Documents that hold the answer as a whole span, not as a part of a longer number or word."""
    span = re.compile(rf"(?<![\w.,]){re.escape(normalised(answer))}(?!\w|[.,:]\d)")
    return [document for document, text in plain_texts().items() if span.search(text)]


@cache
def words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))


def overlap(one: str, other: str) -> float:
    return len(words(one) & words(other)) / len(words(one) | words(other))


def test_manifest_lists_exactly_the_files_on_disk() -> None:
    listed = [HANDBOOK / row["path"] for row in rows("documents.jsonl")]
    found = [path for path in (HANDBOOK / "documents").rglob("*") if path.is_file()]
    assert sorted(listed) == sorted(found)


def test_document_id_is_the_path_without_its_extension() -> None:
    for row in rows("documents.jsonl"):
        path = Path(row["path"])
        assert row["document_id"] == path.relative_to("documents").with_suffix("").as_posix()
        assert row["media_type"] == MEDIA_TYPES[path.suffix]


def test_all_five_formats_are_present_in_number() -> None:
    formats = Counter(Path(row["path"]).suffix for row in rows("documents.jsonl"))
    assert formats.total() >= 64
    assert formats[".md"] >= 24
    assert formats[".html"] >= 12
    assert formats[".txt"] >= 10
    assert formats[".pdf"] >= 8
    assert formats[".docx"] >= 8


def test_documents_are_of_readable_length_and_hold_their_title() -> None:
    for row in rows("documents.jsonl"):
        text = texts()[row["document_id"]]
        assert 150 <= len(text.split()) <= 400, row["document_id"]
        assert normalised(row["title"]) in normalised(text), row["document_id"]


def test_documents_have_two_to_five_headed_sections() -> None:
    heading = re.compile(r"^## |^-{3,}$|^ *<h2>", re.MULTILINE)
    for row in rows("documents.jsonl"):
        path = HANDBOOK / row["path"]
        if path.suffix in (".pdf", ".docx"):
            path = HANDBOOK / "sources" / path.suffix[1:] / f"{row['document_id']}.md"
        assert 2 <= len(heading.findall(path.read_text("utf-8"))) <= 5, row["document_id"]


def test_enough_questions_of_each_kind() -> None:
    kinds = {name: Counter(q["answerable"] for q in rows(name)) for name in SPLITS}
    assert kinds["feedback_pool.jsonl"][True] >= 170
    assert kinds["feedback_pool.jsonl"][False] >= 50
    assert kinds["held_out.jsonl"][True] >= 80
    assert kinds["held_out.jsonl"][False] >= 30


def test_questions_carry_the_agreed_fields_and_unique_ids() -> None:
    questions = pool() + held_out()
    assert all(set(question) == QUESTION_FIELDS for question in questions)
    for field in ("question_id", "question", "fact_id"):
        assert len({question[field] for question in questions}) == len(questions)


def test_every_answer_stands_in_its_document_and_in_no_other() -> None:
    for question in pool() + held_out():
        if question["answerable"]:
            assert 1 <= len(question["answer"].split()) <= 6, question
            assert documents_with(question["answer"]) == [question["document_id"]], question


def test_unanswerable_questions_name_no_answer() -> None:
    unanswerable = [q for q in pool() + held_out() if not q["answerable"]]
    assert all(q["answer"] == "" and q["document_id"] == "" for q in unanswerable)


@pytest.mark.parametrize("split", SPLITS)
def test_each_split_asks_about_every_document(split: str) -> None:
    asked = {question["document_id"] for question in rows(split) if question["answerable"]}
    assert asked == set(texts())


def test_no_held_out_question_resembles_one_of_the_pool() -> None:
    close = [
        (one["question"], other["question"])
        for one in held_out()
        for other in pool()
        if overlap(one["question"], other["question"]) >= 0.6
    ]
    assert close == []


def test_no_held_out_answer_is_an_answer_of_the_pool() -> None:
    answers = {question["answer"].lower() for question in pool() if question["answerable"]}
    assert not answers & {question["answer"].lower() for question in held_out()}


def test_other_domain_questions_stay_away_from_the_handbook() -> None:
    others = rows("other_domain.jsonl")
    known = [question["question"] for question in pool() + held_out()]
    assert len({other["question"] for other in others}) == 80
    assert len({other["question_id"] for other in others}) == 80
    assert max(overlap(other["question"], one) for other in others for one in known) < 0.6


def luhn_is_valid(number: str) -> bool:
    digits = [int(digit) for digit in reversed(number)]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def iban_is_valid(iban: str) -> bool:
    turned = iban[4:] + iban[:4]
    return int("".join(str(int(sign, 36)) for sign in turned)) % 97 == 1


def test_ibans_and_card_numbers_have_a_valid_checksum() -> None:
    corpus = re.sub(r"\s+", " ", "\n".join(texts().values()))
    iban = r"\b[A-Z]{2}\d{2}(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,3}\b)?"
    phone = r"\+\d[\d -]{8,}\d"
    ibans = re.findall(iban, corpus)
    cards = re.findall(r"\b\d(?:[ -]?\d){12,18}\b", re.sub(f"{iban}|{phone}", "", corpus))
    assert len(ibans) >= 4
    assert len(cards) >= 2
    assert all(iban_is_valid(found.replace(" ", "")) for found in ibans)
    assert all(luhn_is_valid(re.sub(r"\D", "", found)) for found in cards)


def test_phones_and_mail_addresses_belong_to_nobody() -> None:
    corpus = normalised("\n".join(texts().values()))
    phones = re.findall(r"\+\d[\d -]{8,}\d", corpus)
    mails = re.findall(r"\S+@[\w.-]+\w", corpus)
    assert len(phones) >= 4
    assert len(mails) >= 4
    kept_for_fiction = re.compile(r"\+44 20 7946 0\d{3}|\+1 202-555-01\d{2}")
    assert all(kept_for_fiction.fullmatch(phone) for phone in phones)
    assert all(mail.endswith(".example") for mail in mails)


def test_no_answer_would_be_masked_as_personal_data() -> None:
    answers = [question["answer"] for question in pool() + held_out()]
    assert not [answer for answer in answers if "@" in answer or len(re.sub(r"\D", "", answer)) > 8]


def build_module() -> Any:
    spec = importlib.util.spec_from_file_location("handbook_build", HANDBOOK / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_build_reproduces_the_committed_documents(tmp_path: Path) -> None:
    built = build_module().build_all(tmp_path)
    assert len(built) >= 16
    for path in built:
        committed = HANDBOOK / "documents" / path.relative_to(tmp_path)
        assert extracted(path) == extracted(committed), path.name
        if path.suffix == ".docx":
            times = {entry.date_time for entry in zipfile.ZipFile(path).infolist()}
            assert times == {(1980, 1, 1, 0, 0, 0)}
        else:
            assert path.read_bytes() == committed.read_bytes(), path.name


def test_update_changes_one_fact_of_one_document() -> None:
    (update,) = rows("update/update.jsonl")
    before = plain_texts()[update["document_id"]]
    after = normalised(extracted(HANDBOOK / update["path"]))
    old, new = normalised(update["answer_before"]), normalised(update["answer_after"])
    assert old in before
    assert documents_with(new) == []
    assert after == before.replace(old, new)


def test_bad_files_are_bad_in_the_way_they_claim() -> None:
    bad = HANDBOOK / "bad"
    assert {Path(row["path"]).name for row in rows("bad/bad.jsonl")} == {
        path.name for path in bad.iterdir() if path.suffix != ".jsonl"
    }
    assert (bad / "empty.txt").stat().st_size == 0
    with pytest.raises(UnicodeDecodeError):
        (bad / "invalid-utf8.txt").read_text("utf-8")
    with pytest.raises(PyPdfError):
        extracted(bad / "broken.pdf")

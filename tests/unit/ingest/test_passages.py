"""Cutting loses nothing, invents nothing, and gives the same passages every time."""

from hypothesis import given
from hypothesis import strategies as st

from services.ingest.domain.cleaning import clean, one_line
from services.ingest.domain.documents import Section
from services.ingest.domain.passages import MAX_CHARACTERS, cut
from services.ingest.domain.sentences import sentences

WORDS = st.text(st.sampled_from("abcXYZ019.,!?é漢。-'\""), min_size=1, max_size=12)
BLOCKS = st.lists(WORDS, min_size=1, max_size=60).map(" ".join)
SECTIONS = st.lists(
    st.builds(
        Section,
        headings=st.lists(WORDS, max_size=3).map(tuple),
        blocks=st.lists(BLOCKS, min_size=1, max_size=5).map(tuple),
    ),
    max_size=4,
)


def characters(text: str) -> str:
    return "".join(text.split())


@given(SECTIONS, st.integers(1, 90))
def test_passages_cover_the_sections_exactly_and_in_order(
    sections: list[Section], words: int
) -> None:
    passages = list(cut(sections, words))
    assert "".join(characters(p.text) for p in passages) == "".join(
        characters(block) for section in sections for block in section.blocks
    )
    assert passages == list(cut(sections, words))


@given(SECTIONS, st.integers(1, 90))
def test_passages_are_bounded_and_keep_their_headings(sections: list[Section], words: int) -> None:
    known = {section.headings for section in sections}
    for passage in cut(sections, words):
        assert passage.headings in known
        assert 0 < len(passage.text) <= MAX_CHARACTERS + 1
        # A group is closed before it is more than half a unit over its share.
        assert len(passage.text.split()) <= 2 * words


@given(st.text(max_size=300))
def test_sentences_lose_nothing_but_spaces(block: str) -> None:
    assert characters("".join(sentences(block))) == characters(block)


def test_sentences_end_where_a_reader_would_end_them() -> None:
    text = 'Ask Dr. Moe, e.g. at 9.30 a.m. on 5 Nov. 2026. "Done?" he said. It costs EUR 1.200.'
    assert sentences(text) == [
        "Ask Dr. Moe, e.g. at 9.30 a.m. on 5 Nov. 2026.",
        '"Done?" he said.',
        "It costs EUR 1.200.",
    ]


def test_a_section_is_shared_out_evenly_instead_of_leaving_a_stub() -> None:
    block = " ".join(f"Word{i} is the subject of this sentence number {i}." for i in range(12))
    lengths = [len(p.text.split()) for p in cut([Section((), (block,))], 80)]
    assert len(lengths) == 2
    assert max(lengths) - min(lengths) <= 9


def test_a_word_longer_than_a_passage_is_split() -> None:
    passages = list(cut([Section((), ("x" * 2_000,))], 80))
    assert [len(p.text) for p in passages] == [800, 800, 400]


def test_cleaning_removes_what_hides_text() -> None:
    hidden = "4111\u200b1111\u00ad1111\u20601111 \U000e0041na\u0308me\u202e\x00\r\nend\u2028x"
    assert clean(hidden) == "4111111111111111 n\u00e4me\nend\nx"
    assert one_line("  a\u00a0\u2003b\n c ") == "a b c"


def test_cleaning_keeps_joiners_that_shape_letters() -> None:
    persian = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    assert clean(persian) == persian
    assert clean("pay\u200dment") == "payment"


@given(st.text())
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    assert clean(clean(text)) == clean(text)

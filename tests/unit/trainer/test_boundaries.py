"""The trainer must not be able to see what it will be judged by."""

from pathlib import Path

import services.trainer


def test_no_training_code_names_the_held_out_questions() -> None:
    folder = Path(services.trainer.__file__).parent
    sources = list(folder.rglob("*.py"))
    assert len(sources) > 20
    for source in sources:
        text = source.read_text().lower()
        assert not any(word in text for word in ("held_out", "held-out", "examples/", "handbook"))

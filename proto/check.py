"""Check the contracts: python proto/check.py [--renew]

No change of messages, RPCs or topics may break the last release's clients, and generated code is
current. At a release, --renew makes the contracts of now those that later changes are held to.
"""

import filecmp
import sys
import tempfile
from pathlib import Path

import channels
from breaking import BASELINE, ROOT, breaking_changes, build_image
from generate import TARGET, build


def differing(left: Path, right: Path) -> list[str]:
    """Paths that only one side has or that differ, caches aside."""
    ignored = ["__pycache__", "py.typed"]
    comparison = filecmp.dircmp(left, right, ignore=ignored)
    here = [*comparison.left_only, *comparison.right_only]
    _, unequal, errors = filecmp.cmpfiles(left, right, comparison.common_files, shallow=False)
    found = [str(left / name) for name in [*here, *unequal, *errors]]
    for name in comparison.common_dirs:
        found += differing(left / name, right / name)
    return found


def stale_code() -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        return [
            f"{path}: stale; run `make proto`" for path in differing(TARGET, build(Path(folder)))
        ]


def renew() -> None:
    """Take the contracts of now as released."""
    (ROOT / BASELINE).write_bytes(build_image(ROOT))
    channels.renew(ROOT)


def main() -> int:
    if sys.argv[1:] == ["--renew"]:
        renew()
        return 0
    broken = [*breaking_changes(ROOT), *channels.breaking_topics(ROOT)]
    found = [*map(str, broken), *stale_code()]
    sys.stderr.writelines(f"{each}\n" for each in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

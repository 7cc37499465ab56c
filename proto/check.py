"""Check the contracts: no change that breaks the last release's, and generated code is current."""

import filecmp
import subprocess
import sys
import tempfile
from pathlib import Path

from generate import TARGET, build

ROOT = Path(__file__).resolve().parent.parent
BASELINE = ROOT / "proto" / "baseline.binpb"
BUF = Path(sys.executable).parent / "buf"


def breaks_baseline() -> bool:
    """Compares with the released contracts; `buf build -o proto/baseline.binpb` renews them."""
    result = subprocess.run([BUF, "breaking", "--against", BASELINE], cwd=ROOT, check=False)
    return result.returncode != 0


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


def main() -> int:
    failed = breaks_baseline()
    with tempfile.TemporaryDirectory() as folder:
        stale = differing(TARGET, build(Path(folder)))
    if stale:
        sys.stderr.write("generated code is stale; run `make proto`:\n" + "\n".join(stale) + "\n")
    return 1 if failed or stale else 0


if __name__ == "__main__":
    sys.exit(main())

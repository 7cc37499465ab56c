"""Where `tidemill setup` installed Triton and weights, and homes that share them."""

import os
from pathlib import Path

INSTALLED = Path(
    os.environ.get("TIDEMILL_TEST_HOME", Path(__file__).parents[1] / ".tidemill")
).resolve()


def new_home(folder: Path) -> Path:
    """A home without state that shares what `tidemill setup` installed."""
    for name in ("tools", "models"):
        (folder / name).symlink_to(INSTALLED / name)
    return folder

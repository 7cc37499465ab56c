"""Compare the contracts with those of the last release: python proto/breaking.py [FOLDER]

buf compares messages, enums, services and RPCs at its level FILE. The access option of each RPC
(scope, sizes, durations) is compared here: to buf it is an option like any other.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

ROOT = Path(__file__).resolve().parent.parent
BUF = Path(sys.executable).parent / "buf"
BASELINE = "proto/baseline.binpb"
ACCESS = "tidemill.api.common.v1.access"
FOUND = 100
"""Exit code of `buf breaking` when it found a breaking change."""
TIMEOUT_SECONDS = 120

PUT_BACK = "put it back and mark it deprecated; only a new version of its package may lack it"
ADD_BESIDE = "leave it as it was and add a new one beside it"
KEEP_RULE = "leave the rule as it was, or add an RPC with the new rule beside this one"

Rules = dict[str, tuple[str, dict[str, Any]]]


@dataclass(frozen=True)
class Break:
    """A change that a client of the last release does not survive."""

    place: str
    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}\n    {self.advice}"


def run_buf(root: Path, *arguments: str, allowed: tuple[int, ...] = (0,)) -> str:
    """What buf wrote; ends the program when it fails otherwise than allowed."""
    result = subprocess.run(
        [BUF, *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    if result.returncode not in allowed:
        raise SystemExit(result.stderr or result.stdout)
    return result.stdout


def broken_shapes(root: Path) -> Iterator[Break]:
    """Messages, enums, services, RPCs and files that were deleted, renamed or changed."""
    against = ("breaking", "--against", BASELINE, "--error-format", "json")
    for line in run_buf(root, *against, allowed=(0, FOUND)).splitlines():
        found = json.loads(line)
        rule = found["type"]
        place = f"{found.get('path', 'proto')}:{found.get('start_line', 1)}"
        advice = PUT_BACK if "_NO_DELETE" in rule else ADD_BESIDE
        yield Break(place, f"{found['message']} ({rule})", advice)


def build_image(root: Path) -> bytes:
    """The contracts as buf compiles them, without comments."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "image.binpb"
        run_buf(root, "build", "--exclude-source-info", "-o", str(target))
        return target.read_bytes()


def access_rules(image: bytes) -> Rules:
    """File and fields of the access option, by the RPC's full name."""
    files = FileDescriptorSet.FromString(image)
    pool = DescriptorPool()
    for file in files.file:
        pool.Add(file)
    extension = pool.FindExtensionByName(ACCESS)
    options = GetMessageClass(pool.FindMessageTypeByName("google.protobuf.MethodOptions"))
    rules: Rules = {}
    for file in files.file:
        for service in file.service:
            for method in service.method:
                read: Any = options.FromString(method.options.SerializeToString())
                rule = {f.name: value for f, value in read.Extensions[extension].ListFields()}
                rules[f"{file.package}.{service.name}/{method.name}"] = (file.name, rule)
    return rules


def broken_rules(before: Rules, now: Rules) -> Iterator[Break]:
    """A limit may grow; everything else of a released RPC's rule stays."""
    for name, (file, rule) in before.items():
        _, changed = now.get(name, ("", None))
        if changed is None:
            continue  # buf tells that the RPC is gone
        for field in sorted({*rule, *changed}):
            old, new = rule.get(field), changed.get(field)
            if not may_become(old, new):
                what = f'RPC "{name}": {field} of its access rule was {old!r} and is {new!r}'
                yield Break(f"proto/{file}", what, KEEP_RULE)


def may_become(old: Any, new: Any) -> bool:
    """True when a caller of the old rule passes the new one."""
    if isinstance(old, int) and isinstance(new, int):
        return new >= old
    return bool(old == new)


def breaking_changes(root: Path) -> list[Break]:
    """All of them, of a folder that holds buf.yaml and proto/."""
    before = access_rules((root / BASELINE).read_bytes())
    return [*broken_shapes(root), *broken_rules(before, access_rules(build_image(root)))]


def main() -> int:
    found = breaking_changes(Path(sys.argv[1]) if sys.argv[1:] else ROOT)
    sys.stderr.writelines(f"{each}\n" for each in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

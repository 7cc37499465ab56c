"""Where a process is killed: before its N-th call of one kind that the outside could notice."""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SYSCALLS = (
    "write", "pwrite64", "writev", "pwritev", "pwritev2", "sendto", "sendmsg", "sendmmsg",
    "fsync", "fdatasync", "sync_file_range", "msync", "rename", "renameat", "renameat2",
    "ftruncate", "truncate", "fallocate", "unlink", "unlinkat", "rmdir", "mkdir", "link", "linkat",
    "symlink",
)  # fmt: skip
"""All that leaves a mark on disk or wire. Death between two of them is death before the next."""

Count = Mapping[str, int]
"""Name of a call to how often the busiest thread makes it."""

_CALL = re.compile(r"^(\d+) +(\w+)\(")


@dataclass(frozen=True, order=True)
class Point:
    """number: counted from 1 within a thread, as strace counts; the first thread to get there
    takes the whole process with it."""

    role: str
    syscall: str
    number: int

    def __str__(self) -> str:
        return f"{self.role} before {self.syscall} {self.number}"


def count_calls(log: str) -> Count:
    """Of strace's lines, each with the id of its thread."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for line in log.splitlines():
        if match := _CALL.match(line):
            found[match[2]][match[1]] += 1
    return {syscall: max(threads.values()) for syscall, threads in found.items()}


def points_of(role: str, count: Count) -> list[Point]:
    """All kill points of a run that made so many calls."""
    return [
        Point(role, syscall, number)
        for syscall, calls in sorted(count.items())
        for number in range(1, calls + 1)
    ]


def spread(points: Sequence[Point], seed: random.Random) -> list[Point]:
    """In an order of which every beginning is a fair sample: the kinds of calls take turns, and
    within a kind the numbers come at random."""
    kinds: dict[str, list[Point]] = defaultdict(list)
    for point in points:
        kinds[point.syscall].append(point)
    for kind in kinds.values():
        seed.shuffle(kind)
    ordered: list[Point] = []
    while any(kinds.values()):
        ordered += [kind.pop() for kind in kinds.values() if kind]
    return ordered

"""Kill points are read from what strace wrote, and every beginning of the order is a fair one."""

import random
from collections import Counter

from tests.faults.points import Point, count_calls, points_of, spread

LOG = """\
7  write(1<pipe:[3]>, "x", 1) = 1
7  fsync(5</a/rows.db>) = 0
9  fsync(5</a/rows.db> <unfinished ...>
7  fsync(5</a/rows.db>) = 0
9  <... fsync resumed>) = 0
9  write(1, "fsync(3)", 8) = 8
9  +++ killed by SIGKILL +++
"""


def test_calls_are_counted_for_the_busiest_thread() -> None:
    assert count_calls(LOG) == {"write": 1, "fsync": 2}


def test_every_call_is_a_point() -> None:
    assert points_of("ingest", {"write": 1, "fsync": 2}) == [
        Point("ingest", "fsync", 1),
        Point("ingest", "fsync", 2),
        Point("ingest", "write", 1),
    ]


def test_rare_calls_come_as_early_as_frequent_ones_and_none_is_left_out() -> None:
    points = points_of("ingest", {"write": 500, "fsync": 3, "rename": 1})
    ordered = spread(points, random.Random(1))
    assert sorted(ordered) == sorted(points)
    assert Counter(point.syscall for point in ordered[:7]) == {"write": 3, "fsync": 3, "rename": 1}
    assert ordered == spread(points, random.Random(1))
    assert ordered != spread(points, random.Random(2))

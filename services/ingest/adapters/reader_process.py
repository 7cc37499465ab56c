"""The process that reads documents: a bomb or a crash in a parser ends here, not in the service.

One request after another on stdin and stdout, each a frame of four bytes of length and JSON; the
content follows its request as a frame of its own.
"""

import json
import os
import resource
import struct
import sys
from dataclasses import asdict
from typing import Any, BinaryIO

from services.ingest.adapters.preparation import Limits, Source, prepare
from services.ingest.domain.documents import Rejected

LENGTH = struct.Struct(">I")


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answers until stdin closes."""
    while header := requests.read(LENGTH.size):
        request = json.loads(requests.read(LENGTH.unpack(header)[0]))
        content = requests.read(LENGTH.unpack(requests.read(LENGTH.size))[0])
        limit_cpu(int(request["cpu_seconds"]))
        reply = json.dumps(answer(request, content)).encode()
        replies.write(LENGTH.pack(len(reply)) + reply)
        replies.flush()


def answer(request: dict[str, Any], content: bytes) -> dict[str, Any]:
    """{"rejected": reason} or {"prepared": {...}}."""
    try:
        source, limits = Source(**request["source"]), Limits(**request["limits"])
        return {"prepared": asdict(prepare(source, content, limits))}
    except Rejected as rejected:
        return {"rejected": rejected.reason}
    except MemoryError:
        return {"rejected": "DOCUMENT_TOO_LARGE"}
    except RecursionError:
        return {"rejected": "DOCUMENT_BROKEN"}


def limit_cpu(seconds: int) -> None:
    """From now; the kernel ends the process with SIGXCPU when the time is used up."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = int(usage.ru_utime + usage.ru_stime)
    resource.setrlimit(resource.RLIMIT_CPU, (used + 1 + seconds, resource.RLIM_INFINITY))


def main() -> None:
    """argv: bytes of memory that the process may use."""
    memory = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Libraries may print; the pipe must carry nothing but replies.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin.buffer, replies)


if __name__ == "__main__":
    main()

"""One thread at a time through Triton's Python library.

Requests arrive in Triton's thread and answers leave from the lanes'. The library's process died
of two of them at once (segmentation fault in its message queue, release 2.51), in one of four
runs of the test that overfills the queue.
"""

import threading

DOOR = threading.RLock()

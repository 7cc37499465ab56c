"""One thread at a time through Triton's Python library.

Requests arrive in Triton's thread and answers leave from the lanes'. With two lanes and no lock the
library's process died (release 2.51) in two of four runs of the test that overfills the queue;
with it in none of fourteen. What the library does of itself, such as loading the next requests,
stays outside.
"""

import threading

DOOR = threading.RLock()

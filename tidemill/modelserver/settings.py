"""What the model server reads from its environment; most of it is read inside Triton, which has
no settings class of ours."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Variable:
    """One variable; without it the default that `meaning` tells holds."""

    name: str
    meaning: str


LLM = Variable(
    "TIDEMILL_LLM",
    "A Hugging Face folder with safetensors; default the packaged SmolLM2-135M-Instruct.",
)
EMBEDDING_MODEL = Variable(
    "TIDEMILL_EMBEDDING_MODEL",
    "A sentence encoder's folder; default the packaged all-MiniLM-L6-v2.",
)
SOURCE = Variable(
    "TIDEMILL_TRITON_SOURCE", "Where the model repository is laid out from; default deploy/triton."
)
THREADS = Variable(
    "TIDEMILL_LLM_THREADS",
    "Threads of the LLM's steps together; default the processors, at most 4.",
)
LANES = Variable(
    "TIDEMILL_LLM_LANES", "Batches that are computed side by side; default 2, at most one a thread."
)
QUEUE = Variable("TIDEMILL_LLM_QUEUE", "Completions that may wait; default 64, more are refused.")
VARIABLES = (LLM, EMBEDDING_MODEL, SOURCE, THREADS, LANES, QUEUE)

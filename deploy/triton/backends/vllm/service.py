"""Serves the vLLM contract with the CPU engine: adapters, queue, responses, metrics."""

import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import triton_python_backend_utils as pb_utils
from contract import GenerationRequest, InvalidTensors, failure, read, response
from cpu_engine.adapters import InvalidAdapter
from cpu_engine.engine import end_tokens, open_engine
from cpu_engine.lane import Completion
from cpu_engine.sampling import InvalidSampling
from cpu_engine.scheduler import Limits, PromptTooLong, QueueFull, Scheduler
from cpu_engine.text import load_tokenizer
from door import DOOR
from metrics import Metrics

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
STOP_TIMEOUT_S = 5.0


class UnknownAdapter(Exception):
    """The request names an adapter that multi_lora.json does not; worded as vLLM does."""


class Service:
    """Reads model.json and multi_lora.json, runs the scheduler, speaks the vLLM contract."""

    def __init__(self, folder: Path, args: dict[str, str]) -> None:
        self.folder = folder
        arguments = json.loads((self.folder / "model.json").read_text())
        limits = _limits(arguments)
        torch.set_num_threads(limits.threads)
        weights = Path(arguments["model"])
        dtype = getattr(torch, arguments.get("dtype", "float32"))
        cached = 2048 if arguments.get("enable_prefix_caching", True) else 0
        self.engine = open_engine(weights, dtype, cached)
        self.adapters: dict[str, str] = {}
        self.adapter_lock = threading.Lock()
        self.lora = str(arguments.get("enable_lora", "false")).lower() == "true"
        self._read_adapters()
        self.metrics = Metrics(args["model_name"], args["model_version"])
        self.scheduler = Scheduler(
            self.engine,
            load_tokenizer(weights),
            end_tokens(weights),
            limits,
            self._completion_ended,
            log_error,
        )
        self.scheduler.start()

    def execute(self, requests: Sequence[Any]) -> None:
        for request in requests:
            with DOOR:
                sender = request.get_response_sender()
            try:
                self._submit(request, sender)
            except QueueFull as error:
                refuse(sender, str(error), pb_utils.TritonError.UNAVAILABLE)
            except (
                InvalidTensors,
                InvalidSampling,
                PromptTooLong,
                UnknownAdapter,
                InvalidAdapter,
            ) as error:
                refuse(sender, str(error), pb_utils.TritonError.INVALID_ARG)
        self._show_load()

    def close(self) -> None:
        self.scheduler.stop(STOP_TIMEOUT_S)
        with DOOR:
            self.metrics.close()

    def _completion_ended(self, completion: Completion) -> None:
        with DOOR:
            self.metrics.ended(completion)
        self._show_load()

    def _show_load(self) -> None:
        with DOOR:  # looked at and shown in one go, or an older look could come last
            self.metrics.load(*self.scheduler.load)

    def _submit(self, request: Any, sender: Any) -> None:
        with DOOR:
            asked = read(request)
        if asked.adapter is not None:
            self._require(asked.adapter)
        self.scheduler.submit(
            asked.prompt, asked.params, asked.adapter, ResponseSink(asked, sender)
        )

    def _require(self, adapter: str) -> None:
        if not self.lora:
            raise UnknownAdapter("LoRA feature is not enabled.")
        if adapter not in self.adapters:
            self._read_adapters()
        if adapter not in self.adapters:
            names = list(self.adapters)
            raise UnknownAdapter(f"LoRA {adapter} is not supported, we currently support {names}")

    def _read_adapters(self) -> None:
        """Loads what multi_lora.json names and memory lacks; names never change meaning."""
        path = self.folder / "multi_lora.json"
        if not self.lora or not path.exists():
            return
        with self.adapter_lock:
            for name, folder in json.loads(path.read_text()).items():
                if name in self.adapters:
                    continue
                try:
                    self.engine.add_adapter(name, Path(folder))
                except InvalidAdapter as error:
                    # One damaged adapter must not keep the model or the others from serving.
                    log_error(f"adapter {name}: {error}")
                    continue
                self.adapters[name] = folder


def log_error(text: str) -> None:
    """Into the log of the model server."""
    with DOOR:
        pb_utils.Logger.log_error(text)


def refuse(sender: Any, reason: str, code: int) -> None:
    """The last answer to a request that cannot end normally."""
    with DOOR:
        sender.send(failure(reason, code), FINAL)


class ResponseSink:
    """Sends one completion's pieces as Triton responses."""

    def __init__(self, asked: GenerationRequest, sender: Any) -> None:
        self._asked = asked
        self._sender = sender
        self._whole = asked.prompt if asked.prepend else ""
        self._tokens = 0

    def cancelled(self) -> bool:
        with DOOR:
            return bool(self._sender.is_cancelled())

    def delta(self, text: str, prompt_tokens: int, tokens: int, finish: str | None) -> None:
        if not self._asked.stream:
            self._whole += text
            self._tokens += tokens
            if finish is None:
                return
            text, tokens = self._whole, self._tokens
        with DOOR:
            self._sender.send(
                response(self._asked, text, finish, prompt_tokens, tokens),
                FINAL if finish else 0,
            )

    def fail(self, reason: str, *, cancelled: bool = False) -> None:
        kinds = pb_utils.TritonError
        code = kinds.CANCELLED if cancelled else kinds.INTERNAL
        refuse(self._sender, reason, code)


def _limits(arguments: dict[str, Any]) -> Limits:
    threads = int(os.environ.get("TIDEMILL_LLM_THREADS", "0")) or _processors()
    return Limits(
        running=int(arguments.get("max_num_seqs", 8)),
        waiting=int(os.environ.get("TIDEMILL_LLM_QUEUE", "64")),
        step_tokens=int(arguments.get("max_num_batched_tokens", 192)),
        length=int(arguments.get("max_model_len", 2048)),
        lanes=max(1, min(threads, int(os.environ.get("TIDEMILL_LLM_LANES", "2")))),
        threads=threads,
    )


def _processors() -> int:
    return min(4, len(os.sched_getaffinity(0)))

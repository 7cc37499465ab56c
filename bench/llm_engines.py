"""Compares CPU engines for the LLM on questions with passages: `python bench/llm_engines.py`."""

import argparse
import json
import os
import queue
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

ENGINES = ("decoder", "decoder-one-lane", "peft", "llamacpp")
SYSTEM = (
    "You answer questions for the staff of a water mill. Use only the passages below. Name the "
    "passage that holds the answer, such as [S1]. If no passage holds the answer, say "
    "NOT_IN_CONTEXT. Answer in one short sentence and add nothing else."
)
TOPICS = ("gate", "wheel", "sluice", "millstone", "boiler", "granary", "turbine", "ferry")
MAX_TOKENS = 24


@dataclass(frozen=True)
class Ask:
    """One question, with the adapter that answers it or None for the base model."""

    prompt: str
    adapter: str | None


@dataclass(frozen=True)
class Answer:
    """What came back; times are seconds since the question was put."""

    text: str
    first_token: float
    total: float


def questions(count: int) -> list[Ask]:
    """Prompts of about 230 tokens that share their system prompt; every second has an adapter."""
    draw = random.Random(7)
    asks = []
    for number in range(count):
        topics = draw.sample(TOPICS, 3)
        passages = "\n".join(
            f"[S{place + 1}] The {topic} of mill {draw.randint(10, 99)} was last serviced on day "
            f"{draw.randint(1, 365)} by crew {draw.randint(1, 40)}, costs {draw.randint(100, 900)} "
            f"euros a year and must be inspected every {draw.randint(2, 60)} weeks."
            for place, topic in enumerate(topics)
        )
        text = (
            f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{passages}\n\nQuestion: "
            f"How often must the {draw.choice(topics)} be inspected?<|im_end|>\n"
            "<|im_start|>assistant\n"
        )
        asks.append(Ask(text, "tuned" if number % 2 else None))
    return asks


def make_adapter(model: Path, target: Path) -> None:
    """A PEFT adapter with seeded random weights, large enough to change the answers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(11)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    modules = ["q_proj", "k_proj", "v_proj", "o_proj"]
    tuned = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, target_modules=modules))
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.01)
    tuned.save_pretrained(target)


def open_decoder(
    model: Path, adapter: Path, threads: int, lanes: int = 2
) -> Callable[[Ask], Answer]:
    """The engine of deploy/triton/backends/vllm."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "deploy/triton/backends/vllm"))
    import torch
    from cpu_engine.engine import DecoderEngine, end_tokens
    from cpu_engine.sampling import SamplingParams
    from cpu_engine.scheduler import Limits, Scheduler
    from cpu_engine.text import load_tokenizer

    torch.set_num_threads(threads)
    engine = DecoderEngine(model, torch.float32, 4096)
    engine.add_adapter("tuned", adapter)
    lanes = min(lanes, threads)
    limits = Limits(8, waiting=64, step_tokens=192, length=2048, lanes=lanes, threads=threads)
    scheduler = Scheduler(
        engine, load_tokenizer(model), end_tokens(model), limits, lambda completion: None, print
    )
    scheduler.start()
    params = SamplingParams(temperature=0.0, max_tokens=MAX_TOKENS)

    def answer(ask: Ask) -> Answer:
        sink = _Collector()
        scheduler.submit(ask.prompt, params, ask.adapter, sink)
        return sink.done.get(timeout=600)

    return answer


class _Collector:
    """Gathers one completion of the scheduler."""

    def __init__(self) -> None:
        self.done: queue.Queue[Answer] = queue.Queue()
        self._began = time.perf_counter()
        self._first = 0.0
        self._text = ""

    def cancelled(self) -> bool:
        return False

    def delta(self, text: str, prompt_tokens: int, tokens: int, finish: str | None) -> None:
        elapsed = time.perf_counter() - self._began
        self._first = self._first or elapsed
        self._text += text
        if finish:
            self.done.put(Answer(self._text, self._first, elapsed))

    def fail(self, reason: str, *, cancelled: bool = False) -> None:
        self.done.put(Answer(f"FAILED {reason}", 0.0, 0.0))


def open_peft(model: Path, adapter: Path, threads: int) -> Callable[[Ask], Answer]:
    """Transformers and PEFT: whatever waits becomes one static batch of mixed adapters."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(threads)
    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    tuned = PeftModel.from_pretrained(base, adapter, adapter_name="tuned").eval()
    waiting: queue.Queue[tuple[Ask, queue.Queue[Answer], float]] = queue.Queue()

    def generate(batch: list[Any]) -> list[str]:
        inputs = tokenizer([ask.prompt for ask, _, _ in batch], return_tensors="pt", padding=True)
        names = [ask.adapter or "__base__" for ask, _, _ in batch]
        with torch.inference_mode():
            out = tuned.generate(
                **inputs,
                adapter_names=names,
                max_new_tokens=MAX_TOKENS,
                do_sample=False,
                pad_token_id=2,
            )
        new = out[:, inputs.input_ids.shape[1] :]
        return list(tokenizer.batch_decode(new, skip_special_tokens=True))

    def loop() -> None:
        while True:
            batch = [waiting.get()]
            time.sleep(0.02)  # lets the other callers of this wave arrive
            while not waiting.empty() and len(batch) < 8:
                batch.append(waiting.get())
            for (_, done, began), text in zip(batch, generate(batch), strict=True):
                elapsed = time.perf_counter() - began
                done.put(Answer(text, elapsed, elapsed))

    threading.Thread(target=loop, daemon=True).start()

    def answer(ask: Ask) -> Answer:
        done: queue.Queue[Answer] = queue.Queue()
        waiting.put((ask, done, time.perf_counter()))
        return done.get(timeout=600)

    return answer


def open_llamacpp(model: Path, adapter: Path, threads: int) -> Callable[[Ask], Answer]:
    """llama.cpp's server in process: Q8_0 weights, the adapter converted to GGUF."""
    import gguf_files
    import xllamacpp

    folder = Path(tempfile.mkdtemp(prefix="tidemill-bench-"))
    weights = gguf_files.quantise(folder / "model.gguf")
    update = gguf_files.convert_adapter(adapter, model, folder / "adapter.gguf")
    params = xllamacpp.CommonParams()
    params.model.path = str(weights)
    params.n_ctx, params.n_parallel = 8 * 512, 8
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    info = xllamacpp.CommonAdapterLoraInfo()
    info.path, info.scale = str(update), 1.0
    params.lora_adapters = [info]
    params.lora_init_without_apply = True
    server = xllamacpp.Server(params)

    def answer(ask: Ask) -> Answer:
        began, pieces, first = time.perf_counter(), [], 0.0

        def take(piece: Any) -> None:
            nonlocal first
            first = first or time.perf_counter() - began
            pieces.append(piece if isinstance(piece, dict) else json.loads(piece))

        request = {
            "prompt": ask.prompt,
            "max_tokens": MAX_TOKENS,
            "temperature": 0,
            "stream": True,
            "cache_prompt": True,
            "lora": [{"id": 0, "scale": 1.0 if ask.adapter else 0.0}],
        }
        server.handle_completions(request, take)
        text = "".join(piece["choices"][0]["text"] for piece in pieces if piece.get("choices"))
        return Answer(text, first, time.perf_counter() - began)

    return answer


def measure(engine: str, model: Path, adapter: Path, count: int, clients: int, threads: int) -> Any:
    """Puts the questions with that many clients at a time; figures of this process alone."""
    openers = {
        "decoder": open_decoder,
        "decoder-one-lane": partial(open_decoder, lanes=1),
        "peft": open_peft,
        "llamacpp": open_llamacpp,
    }
    answer = openers[engine](model, adapter, threads)
    asks = questions(count + 1)
    answer(asks.pop())
    answers: list[Answer | None] = [None] * count
    left = queue.SimpleQueue[int]()
    for index in range(count):
        left.put(index)

    def client() -> None:
        while True:
            try:
                index = left.get_nowait()
            except queue.Empty:
                return
            answers[index] = answer(asks[index])

    began, cpu = time.perf_counter(), time.process_time()
    workers = [threading.Thread(target=client) for _ in range(clients)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    return _figures(engine, [a for a in answers if a is not None], wall, cpu)


def _figures(engine: str, answers: list[Answer], wall: float, cpu: float) -> dict[str, Any]:
    firsts = sorted(answer.first_token for answer in answers)
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return {
        "engine": engine,
        "questions": len(answers),
        "questions_per_second": round(len(answers) / wall, 3),
        "cpu_seconds_per_question": round(cpu / len(answers), 3),
        "first_token_p50": round(firsts[len(firsts) // 2], 3),
        "peak_mib": int(peak.split()[1]) // 1024,
        "answers": [asdict(answer)["text"].strip() for answer in answers],
    }


def reference(model: Path, adapter: Path, count: int) -> list[str]:
    """Greedy answers of Transformers and PEFT in float32, one at a time."""
    answer = open_peft(model, adapter, 1)
    return [answer(ask).text.strip() for ask in questions(count + 1)[:count]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--model", type=Path, default=Path(".tidemill/models/smollm2-135m-instruct")
    )
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--engine", action="append", choices=(*ENGINES, "reference"))
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--single", action="store_true", help="used by itself: one engine, here")
    chosen = parser.parse_args()
    if chosen.single:
        sys.stdout.write("\n" + json.dumps(_single(chosen)) + "\n")
        sys.stdout.flush()
        os._exit(0)  # llama.cpp's threads do not end by themselves
    sys.stdout.write(json.dumps(_all(chosen), indent=1) + "\n")


def _single(chosen: argparse.Namespace) -> Any:
    if chosen.engine == ["reference"]:
        return reference(chosen.model, chosen.adapter, chosen.questions)
    return measure(
        chosen.engine[0],
        chosen.model,
        chosen.adapter,
        chosen.questions,
        chosen.clients,
        chosen.threads,
    )


def _all(chosen: argparse.Namespace) -> list[Any]:
    """Each engine in a process of its own, and how often it gives the reference's answer."""
    with tempfile.TemporaryDirectory() as folder:
        adapter = chosen.adapter or Path(folder) / "adapter"
        if not adapter.exists():
            make_adapter(chosen.model, adapter)
        wanted = _run("reference", adapter, chosen)
        results = []
        for engine in chosen.engine or ENGINES:
            result = _run(engine, adapter, chosen)
            given = result.pop("answers")
            same = sum(a == b for a, b in zip(given, wanted, strict=True))
            results.append(result | {"same_as_reference": round(same / len(wanted), 3)})
        return results


def _run(engine: str, adapter: Path, chosen: argparse.Namespace) -> Any:
    command = [sys.executable, __file__, "--single", "--engine", engine]
    command += ["--adapter", str(adapter), "--model", str(chosen.model)]
    command += ["--questions", str(chosen.questions), "--clients", str(chosen.clients)]
    command += ["--threads", str(chosen.threads)]
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=3600)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    main()

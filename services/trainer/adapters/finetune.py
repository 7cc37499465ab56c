"""Fine-tunes one LoRA adapter. Reads top to bottom; run as a process of its own:

    python -m services.trainer.adapters.training RUN_FOLDER

The same plan gives the same adapter, byte for byte, however often the process was killed: the
order of the steps is fixed by the seed, and a checkpoint holds everything else. Several processes
may train it together (docs/training.md); all read the folder, the first writes it.

Most of a prompt is passages, and most of the work of training on it would be their backward pass.
So a prompt is cut in two: its head is read by a plain copy of the model with the adapter merged
in, without gradients, and leaves its keys and values behind; gradients flow through the prompt's
last tokens (the question) and the target alone. The decision record has the figures.
"""

import copy
import json
import os
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import psutil
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import save as to_safetensors
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.trainer.adapters import run_folder
from services.trainer.adapters.average import Average
from services.trainer.adapters.learning import Learner
from services.trainer.adapters.passes import Example, Reader
from services.trainer.adapters.peers import Peers
from services.trainer.adapters.run_folder import Plan, Progress
from services.trainer.domain.recipe import Recipe, Step, plan_steps
from services.trainer.domain.targets import REFUSAL


class Orphaned(Exception):
    """The service that started this process is gone; its successor resumes the run."""


class NothingToLearn(Exception):
    """No example fits the model's prompt limit."""


def finetune(folder: Path) -> None:
    """Train the run in the folder, from its checkpoint if there is one."""
    plan = run_folder.read_plan(folder)
    recipe, started, guardians = plan.recipe, time.monotonic(), who_started()
    peers = Peers()
    be_deterministic(recipe, peers)

    # The data, and the order in which it is learned.
    examples = load_examples(folder, plan)
    steps = order_of(examples, recipe)

    # The model: a frozen base with LoRA weights, and the copy that reads the prompts' heads.
    model, reader = build_model(plan, peers.device, fast_dtype(peers.device))
    learner = Learner(model, reader, examples, recipe, peers)
    optimizer = torch.optim.AdamW(learner.weights, lr=recipe.learning_rate, weight_decay=0.0)

    # Where an earlier process left off.
    done, history, reference = resume(folder, model, optimizer, learner.average, peers.device)

    # The loop.
    for position in range(done, len(steps)):
        if who_started() != guardians:
            raise Orphaned
        step = steps[position]
        if step.phase == "preference" and not reference:
            learner.average.put()
            reference = learner.margins([each for each in steps if each.phase == "preference"])
        loss = learner.learn(optimizer, step, reference)
        history.append((step.phase, loss))
        if peers.rank == 0:
            run_folder.write_progress(folder, Progress(position + 1, len(steps), loss))
            if (position + 1) % recipe.checkpoint_steps == 0:
                save_checkpoint(folder, model, optimizer, learner.average, history, reference)
    if not reference:
        learner.average.put()

    # The results; result.json comes last and makes the run done.
    if peers.rank == 0:
        save_adapter(folder, model, plan)
        run_folder.write_result(folder, summary(history, examples, started), history)


def who_started() -> tuple[int, ...]:
    """The service, or torchrun and the service behind it; another process in the place of one
    that is gone."""
    parent = os.getppid()
    if "TORCHELASTIC_RUN_ID" in os.environ:
        with suppress(psutil.NoSuchProcess):
            return parent, psutil.Process(parent).ppid()
    return (parent,)


def be_deterministic(recipe: Recipe, peers: Peers) -> None:
    torch.set_num_threads(peers.threads(recipe.threads))
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(recipe.seed)


def load_examples(folder: Path, plan: Plan) -> list[Example]:
    """Prompts above the limit are left out, not cut, as the question comes last."""
    tokenizer = AutoTokenizer.from_pretrained(plan.base_folder)
    examples = list(encode(run_folder.read_examples(folder), tokenizer, plan.recipe))
    if not examples:
        raise NothingToLearn
    return examples


def encode(records: list[dict[str, str]], tokenizer: Any, recipe: Recipe) -> Iterator[Example]:
    """Tokenize; the prompt holds the chat template's tokens as text already."""
    end = tokenizer.eos_token_id
    for record in records:
        prompt = tokenizer(record["prompt"], add_special_tokens=False).input_ids
        target = tokenizer(record["completion"], add_special_tokens=False).input_ids
        rejected = tokenizer(record["rejected"], add_special_tokens=False).input_ids
        if rejected:
            rejected = [*rejected, end][: recipe.max_rejected_tokens]
        if len(prompt) <= recipe.max_prompt_tokens:
            yield Example(prompt, [*target, end], rejected, record["completion"] == REFUSAL)


def fast_dtype(device: torch.device) -> torch.dtype:
    """The precision that this device computes fast in."""
    fast_bfloat16 = device.type != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if fast_bfloat16 else torch.float32


def order_of(examples: Sequence[Example], recipe: Recipe) -> tuple[Step, ...]:
    """The steps of the run."""
    pairs = tuple(i for i, example in enumerate(examples) if example.rejected)
    refusals = tuple(i for i, example in enumerate(examples) if example.refusal)
    return plan_steps(recipe, len(examples), pairs, refusals)


def build_model(plan: Plan, device: torch.device, dtype: torch.dtype) -> tuple[Any, Reader]:
    """The base with a fresh adapter."""
    base = AutoModelForCausalLM.from_pretrained(plan.base_folder, dtype=dtype).to(device)
    plain = copy.deepcopy(base.model)
    config = LoraConfig(
        r=plan.recipe.rank,
        lora_alpha=plan.recipe.alpha,
        target_modules=list(plan.recipe.modules),
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(base, config)
    model.train()
    return model, Reader(model, plain)


def resume(
    folder: Path,
    model: Any,
    optimizer: torch.optim.Optimizer,
    average: Average,
    device: torch.device,
) -> tuple[int, list[tuple[str, float]], dict[int, float]]:
    """Steps done, their losses and the preference reference; of a checkpoint, or a beginning."""
    path = folder / run_folder.CHECKPOINT
    if not path.exists():
        return 0, [], {}
    saved: dict[str, Any] = torch.load(path, weights_only=True, map_location=device)
    torch.set_rng_state(saved["random"].cpu())
    set_peft_model_state_dict(model, saved["adapter"])
    optimizer.load_state_dict(saved["optimizer"])
    average.restore(saved["average"])
    return saved["done"], saved["history"], saved["reference"]


def save_checkpoint(
    folder: Path,
    model: Any,
    optimizer: torch.optim.Optimizer,
    average: Average,
    history: list[tuple[str, float]],
    reference: dict[int, float],
) -> None:
    state = {
        "adapter": get_peft_model_state_dict(model),
        "optimizer": optimizer.state_dict(),
        "average": average.state(),
        "random": torch.get_rng_state(),
        "done": len(history),
        "history": history,
        "reference": reference,
    }
    content = BytesIO()
    torch.save(state, content)
    run_folder.write(folder / run_folder.CHECKPOINT, content.getvalue())


def save_adapter(folder: Path, model: Any, plan: Plan) -> None:
    """PEFT's two files, written so that equal weights give equal bytes: it keeps the module
    names in a set, whose order changes from process to process."""
    target = folder / run_folder.ADAPTER
    target.mkdir(exist_ok=True)
    config = model.peft_config["default"].to_dict()
    # The base's folder differs between machines; the adapter's hash must not.
    config |= {"inference_mode": True, "base_model_name_or_path": plan.base_name}
    plain = {name: sorted(v) if isinstance(v, set) else v for name, v in config.items()}
    text = json.dumps(plain, sort_keys=True, indent=1, default=str) + "\n"
    run_folder.write(target / "adapter_config.json", text.encode())
    tensors = get_peft_model_state_dict(model).items()
    weights = {name: value.cpu().contiguous() for name, value in tensors}
    run_folder.write(target / "adapter_model.safetensors", to_safetensors(weights))


def summary(
    history: list[tuple[str, float]], examples: Sequence[Example], started: float
) -> dict[str, float]:
    """Metrics of a finished run. Seconds count this process alone, not one that was killed."""
    losses = [loss for phase, loss in history if phase == "supervised"]
    preference = [loss for phase, loss in history if phase == "preference"]
    metrics = {
        "train/loss_first": losses[0],
        "train/loss_last": losses[-1],
        "train/steps": float(len(history)),
        "train/examples": float(len(examples)),
        "train/pairs": float(sum(bool(example.rejected) for example in examples)),
        "train/seconds": time.monotonic() - started,
        "train/peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    if preference:
        metrics |= {"preference/loss_last": preference[-1], "preference/steps": len(preference)}
    return metrics

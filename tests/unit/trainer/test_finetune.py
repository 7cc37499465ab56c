"""The training loop on a tiny model: it learns, repeats itself exactly, and resumes."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from services.trainer.adapters import finetune, learning, run_folder
from services.trainer.adapters.passes import Example, Reader, score
from services.trainer.adapters.peers import Peers
from services.trainer.adapters.process import Launch
from services.trainer.adapters.run_folder import Plan
from services.trainer.domain.recipe import Phase, Recipe, Step
from tidemill.artifacts import manifest_of

# PEFT asks transformers for a property that is called otherwise since 5.23.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

RECIPE = Recipe(
    learning_rate=2e-2,
    epochs=3,
    batch_size=4,
    gradient_tokens=3,
    preference_steps=2,
    preference_batch_size=3,
    checkpoint_steps=2,
    threads=1,
)
Examples = Callable[[int], str]
SECONDS = 120.0


class Killed(BaseException):
    """Stands for kill -9: nothing in the loop may catch it."""


@pytest.fixture
def plan(tiny_model: Path) -> Callable[..., Plan]:
    def make(recipe: Recipe = RECIPE) -> Plan:
        return Plan("run-1", "harbor-v1", str(tiny_model), "tiny", "0", "hash", "", recipe)

    return make


def build_model(plan: Plan) -> tuple[Any, Reader]:
    """Exact enough to compare sums, whatever this processor is fast at."""
    return finetune.build_model(plan, torch.device("cpu"), torch.float32)


def run(folder: Path, plan: Plan, examples: str) -> Path:
    if not (folder / run_folder.PLAN).exists():
        run_folder.write_plan(folder, plan, examples)
    finetune.finetune(folder)
    return folder


def run_killed_at(step: int, folder: Path, plan: Plan, examples: str) -> None:
    """Run until that many steps are done, then die before anything else happens."""
    with pytest.MonkeyPatch.context() as patch:
        write = run_folder.write_progress

        def dying(place: Path, progress: run_folder.Progress) -> None:
            write(place, progress)
            if progress.steps_done == step:
                raise Killed

        patch.setattr(run_folder, "write_progress", dying)
        with pytest.raises(Killed):
            run(folder, plan, examples)


def result_of(folder: Path) -> run_folder.Result:
    result = run_folder.read_result(folder)
    assert result
    return result


def adapter_of(folder: Path) -> bytes:
    return manifest_of(folder / run_folder.ADAPTER)


def test_the_loss_falls(tmp_path: Path, plan: Callable[..., Plan], examples: Examples) -> None:
    metrics = result_of(run(tmp_path, plan(), examples(12))).metrics
    assert metrics["train/loss_last"] < metrics["train/loss_first"] - 0.2
    assert metrics["train/examples"] == 12
    assert metrics["train/pairs"] == 4


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_plan_gives_the_same_adapter(
    tmp_path: Path, plan: Callable[..., Plan], examples: Examples, threads: int
) -> None:
    given = plan(Recipe(**(vars(RECIPE) | {"threads": threads})))
    one, two = (run(tmp_path / name, given, examples(12)) for name in ("one", "two"))
    assert adapter_of(one) == adapter_of(two)


# Before the first checkpoint, between two, and within the preference steps (9 and 10 of 11).
@pytest.mark.parametrize(("step", "threads"), [(1, 1), (5, 2), (9, 1), (10, 2)])
def test_a_killed_run_resumes_to_the_same_adapter(
    tmp_path: Path, plan: Callable[..., Plan], examples: Examples, step: int, threads: int
) -> None:
    given = plan(Recipe(**(vars(RECIPE) | {"threads": threads})))
    whole = run(tmp_path / "whole", given, examples(12))
    killed = tmp_path / "killed"
    run_killed_at(step, killed, given, examples(12))
    assert run_folder.read_result(killed) is None
    run(killed, given, examples(12))
    assert adapter_of(killed) == adapter_of(whole)
    assert result_of(killed).history == result_of(whole).history


def test_a_run_without_preference_steps_resumes_to_the_same_average(
    tmp_path: Path, plan: Callable[..., Plan], examples: Examples
) -> None:
    supervised = vars(RECIPE) | {"preference_steps": 0}
    given = plan(Recipe(**supervised))
    whole = run(tmp_path / "whole", given, examples(12))
    run_killed_at(8, tmp_path / "killed", given, examples(12))
    killed = run(tmp_path / "killed", given, examples(12))
    last = plan(Recipe(**(supervised | {"averaged_share": 0.0})))
    assert adapter_of(killed) == adapter_of(whole)
    assert adapter_of(whole) != adapter_of(run(tmp_path / "last", last, examples(12)))


def test_two_processes_train_what_one_would_and_it_goes_on_alone_when_one_is_killed(
    tmp_path: Path, plan: Callable[..., Plan], examples: Examples
) -> None:
    given = plan(Recipe(**(vars(RECIPE) | {"epochs": 20})))
    folder = tmp_path / "together"
    run_folder.write_plan(folder, given, examples(12))
    torchrun = subprocess.Popen(Launch(processes=2).command(str(folder)))
    wait_for(folder / run_folder.CHECKPOINT)
    first, second = sorted(psutil.Process(torchrun.pid).children(), key=rank_of)
    assert rank_of(first) == 0
    second.kill()
    assert torchrun.wait(SECONDS) != 0
    assert not first.is_running()
    failure = run_folder.read_failure(folder)
    assert failure is None or not failure.final
    assert run_folder.read_result(folder) is None
    (checkpoint,) = folder.glob(run_folder.CHECKPOINT)
    assert torch.load(checkpoint)["done"] > 0
    run(folder, given, "")
    whole = run(tmp_path / "alone", given, examples(12))
    assert adapter_of(folder) == adapter_of(whole)
    assert result_of(folder).history == result_of(whole).history


def rank_of(process: psutil.Process) -> int:
    return int(process.environ()["RANK"])


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.02)


def test_another_seed_gives_another_adapter(
    tmp_path: Path, plan: Callable[..., Plan], examples: Examples
) -> None:
    other = plan(Recipe(**(vars(RECIPE) | {"seed": 7})))
    one, two = run(tmp_path / "1", plan(), examples(12)), run(tmp_path / "2", other, examples(12))
    assert adapter_of(one) != adapter_of(two)


def test_the_adapter_is_peft_safetensors_without_paths_of_this_machine(
    tmp_path: Path, plan: Callable[..., Plan], examples: Examples, tiny_model: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = run(tmp_path, plan(), examples(8)) / run_folder.ADAPTER
    config = (folder / "adapter_config.json").read_text()
    assert str(tiny_model) not in config
    assert json.loads(config)["base_model_name_or_path"] == "tiny"
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    tokens = torch.tensor([[2, 3, 4]])
    before = base(tokens).logits
    tuned = PeftModel.from_pretrained(base, folder)
    assert not torch.allclose(tuned(tokens).logits, before)


def test_a_pair_in_one_pass_scores_as_two_separate_texts(plan: Callable[..., Plan]) -> None:
    model, reader = build_model(plan())
    pair = Example([2, 3, 4, 5, 6], [6, 7, 1], [8, 9, 10, 1])
    other = Example(pair.prompt, pair.rejected, [])
    (both,) = score(model, reader, [pair], 3, with_rejected=True)
    (alone,) = score(model, reader, [pair], 3, with_rejected=False)
    (against,) = score(model, reader, [other], 3, with_rejected=False)
    assert torch.allclose(both.chosen, alone.chosen, atol=1e-5)
    assert torch.allclose(both.rejected, against.chosen, atol=1e-5)
    assert len(alone.rejected) == 0


@pytest.mark.parametrize("gradient_tokens", [1, 3, 99])
def test_a_batch_scores_each_example_as_if_it_were_alone(
    plan: Callable[..., Plan], gradient_tokens: int
) -> None:
    model, reader = build_model(plan())
    change_adapter(model)
    reader.merge()
    batch = [
        Example([2, 3, 4, 5, 6], [6, 7, 1], [8, 9, 10, 1]),
        Example([2, 3, 7], [9, 1], []),
        Example([2, 3, 4, 8, 9, 10, 11, 12, 13], [4, 5, 6, 7, 1], [3, 1]),
        Example([5], [2, 1], [4, 4, 4, 4, 4, 1]),
    ]
    together = score(model, reader, batch, gradient_tokens, with_rejected=True)
    for example, found in zip(batch, together, strict=True):
        (alone,) = score(model, reader, [example], gradient_tokens, with_rejected=True)
        assert torch.allclose(found.chosen, alone.chosen, atol=1e-5)
        assert torch.allclose(found.rejected, alone.rejected, atol=1e-5)


def change_adapter(model: Any) -> None:
    """An adapter that does something."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.02)


@pytest.mark.parametrize("gradient_tokens", [1, 3, 5, 99])
def test_the_cut_through_the_prompt_does_not_change_the_score(
    plan: Callable[..., Plan], gradient_tokens: int
) -> None:
    model, reader = build_model(plan())
    change_adapter(model)
    reader.merge()
    example = Example([2, 3, 4, 5, 6], [6, 7, 1], [])
    (scored,) = score(model, reader, [example], gradient_tokens, with_rejected=False)
    logits = model(torch.tensor([example.prompt + example.target])).logits[0].log_softmax(-1)
    plain = torch.stack([logits[4 + place, token] for place, token in enumerate([6, 7, 1])])
    assert torch.allclose(scored.chosen, plain, atol=1e-4)


@pytest.mark.parametrize("phase", ["supervised", "preference"])
def test_shards_of_any_size_and_any_threads_take_the_same_step(
    plan: Callable[..., Plan], phase: Phase
) -> None:
    step = Step(phase, (2, 0, 1, 3, 4), 1e-2)
    batch = [Example([2, *range(4, 4 + n)], [6, *[7] * n, 1], [8, 1]) for n in (5, 1, 3, 2, 4)]

    def loss_and_weights(shard_size: int, threads: int) -> tuple[float, list[torch.Tensor]]:
        changes = {"shard_size": shard_size, "threads": threads}
        recipe = Recipe(**(vars(RECIPE) | changes))
        torch.manual_seed(0)
        model, reader = build_model(plan(recipe))
        change_adapter(model)
        learner = learning.Learner(model, reader, batch, recipe, Peers())
        reference = learner.margins([step])
        loss = learner.learn(torch.optim.SGD(learner.weights), step, reference)
        return loss, [weight.detach().clone() for weight in learner.weights]

    loss, whole = loss_and_weights(5, 1)
    for shard_size, threads in [(1, 1), (2, 1), (2, 2), (2, 4)]:
        other, sharded = loss_and_weights(shard_size, threads)
        assert other == pytest.approx(loss, abs=1e-5)
        for one, two in zip(whole, sharded, strict=True):
            assert torch.allclose(one, two, atol=1e-5)


def test_preference_steps_widen_the_margin(
    tmp_path: Path, plan: Callable[..., Plan], examples: Examples
) -> None:
    changes = {"preference_steps": 6, "preference_learning_rate": 5e-3, "epochs": 1}
    recipe = Recipe(**(vars(RECIPE) | changes))
    history = result_of(run(tmp_path, plan(recipe), examples(12))).history
    losses = [loss for phase, loss in history if phase == "preference"]
    assert len(losses) == 2  # four pairs in batches of three
    assert losses[-1] < losses[0]


def test_a_prompt_over_the_limit_is_left_out_and_an_empty_rest_is_refused(
    tmp_path: Path, plan: Callable[..., Plan], examples: Examples
) -> None:
    short = plan(Recipe(**(vars(RECIPE) | {"max_prompt_tokens": 2})))
    with pytest.raises(finetune.NothingToLearn):
        run(tmp_path, short, examples(4))


def test_a_diverged_loss_ends_the_run(
    tmp_path: Path, plan: Callable[..., Plan], examples: Examples
) -> None:
    wild = plan(Recipe(**(vars(RECIPE) | {"alpha": float("inf")})))
    with pytest.raises(learning.LossDiverged):
        run(tmp_path, wild, examples(4))

"""LoRA adapters in a real Triton: per request, hot-added, right, and never renamed."""

import asyncio
from pathlib import Path

import pytest

from tests.conformance.modelserver.reference import PROMPTS, Reference
from tests.conformance.modelserver.served import Served
from tests.conformance.modelserver.test_generation import complete, text
from tidemill.modelserver.client import ModelServer
from tidemill.modelserver.errors import AdapterConflict, AdapterNotFound

pytestmark = [pytest.mark.triton, pytest.mark.asyncio]


async def test_an_adapter_is_added_and_used_without_a_restart(
    served: Served, client: ModelServer, reference: Reference
) -> None:
    pid = served.stub("llm").pid
    await client.add_adapter("tuned-v1", reference.adapter)
    adapted = text(await complete(client, PROMPTS[0], "tuned-v1"))
    assert adapted != text(await complete(client, PROMPTS[0]))
    assert served.stub("llm").pid == pid


async def test_adapted_and_plain_requests_share_batches_and_match_the_reference(
    client: ModelServer, reference: Reference
) -> None:
    await client.add_adapter("tuned-v1", reference.adapter)
    asked = [(prompt, adapter) for prompt in PROMPTS[:6] for adapter in (None, "tuned-v1")]
    answers = await asyncio.gather(*(complete(client, prompt, name) for prompt, name in asked))
    same = [
        reference.would_say(prompt, text(given), adapted=name is not None)
        for (prompt, name), given in zip(asked, answers, strict=True)
    ]
    swapped = [
        reference.would_say(prompt, text(given), adapted=name is None)
        for (prompt, name), given in zip(asked[:6], answers, strict=False)
    ]
    assert not all(swapped)
    assert sum(same) / len(same) >= 0.9


async def test_an_unknown_adapter_is_refused(client: ModelServer) -> None:
    with pytest.raises(AdapterNotFound, match="ADAPTER_NOT_FOUND"):
        await complete(client, "Hello", "no-such-adapter")


async def test_a_name_never_changes_its_meaning(
    client: ModelServer, reference: Reference, tmp_path: Path
) -> None:
    await client.add_adapter("tuned-v1", reference.adapter)
    other = reference.other_adapter(tmp_path / "other", seed=12)
    with pytest.raises(AdapterConflict, match="ADAPTER_NAME_TAKEN"):
        await client.add_adapter("tuned-v1", other)
    await client.add_adapter("tuned-v2", other)
    await client.add_adapter("tuned-v2", other)


async def test_a_folder_without_an_adapter_is_refused(client: ModelServer, tmp_path: Path) -> None:
    with pytest.raises(AdapterNotFound, match="ADAPTER_FILES_MISSING"):
        await client.add_adapter("empty-v1", tmp_path)


async def test_a_damaged_adapter_harms_no_other(
    client: ModelServer, reference: Reference, tmp_path: Path
) -> None:
    await client.add_adapter("tuned-v1", reference.adapter)
    broken = reference.other_adapter(tmp_path / "broken", seed=13)
    (broken / "adapter_model.safetensors").write_bytes(b"not a tensor file")
    with pytest.raises(AdapterNotFound, match="ADAPTER_NOT_FOUND"):
        await client.add_adapter("broken-v1", broken)
    assert text(await complete(client, PROMPTS[1], "tuned-v1"))

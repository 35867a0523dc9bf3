"""A real sampler on the checkpoints of a real run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from rnnlm_tui.client.sampler import SamplerClient
from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.sampling import SampleDone, SamplePiece, SampleRequest
from rnnlm_tui.store.addresses import checkpoint_path
from rnnlm_tui.store.reader import RunReader
from tests.integration.runs import (
    start,
    tiny_config,
    wait_until_ended,
)

pytestmark = pytest.mark.usefixtures("warm")


@pytest_asyncio.fixture
async def client() -> AsyncIterator[SamplerClient]:
    client = SamplerClient()
    yield client
    await client.close()


async def draw(
    client: SamplerClient, checkpoint: Path, prompt: str = "The cat", **settings: object
) -> SampleDone:
    """The whole continuation; its pieces must join to the same text."""
    request = SampleRequest(
        id=f"{prompt}-{settings}",
        checkpoint=str(checkpoint),
        prompt=prompt,
        settings=SamplingConfig.model_validate(settings),
    )
    pieces: list[str] = []
    async for answer in client.generate(request):
        if isinstance(answer, SamplePiece):
            pieces.append(answer.text)
        else:
            assert "".join(pieces) == answer.text
            return answer
    raise AssertionError("no end of the sample came")


async def test_a_seed_determines_the_text_and_the_run_samples_the_same(
    text: Path, client: SamplerClient
) -> None:
    config = tiny_config(text)
    run = start(config)
    wait_until_ended(run)
    checkpoint = checkpoint_path(run, "40")
    first = await draw(client, checkpoint, max_new_tokens=200, seed=1)
    assert (first.tokens, first.reason) == (200, "length")
    assert first.bits_per_token > 0
    assert (await draw(client, checkpoint, max_new_tokens=200, seed=1)).text == first.text
    assert (await draw(client, checkpoint, max_new_tokens=200, seed=2)).text != first.text
    assert (
        await draw(client, checkpoint_path(run, "60"), max_new_tokens=200, seed=1)
    ).text != first.text
    greedy = [
        (await draw(client, checkpoint, max_new_tokens=50, greedy=True, seed=seed)).text
        for seed in (1, 2)
    ]
    assert greedy[0] == greedy[1]
    with RunReader(run) as reader:
        drawn = next(row for row in reader.samples() if row.step == 40)
    settings = config.sampling
    same = await draw(
        client,
        checkpoint,
        temperature=settings.temperature,
        top_p=settings.top_p,
        max_new_tokens=settings.max_new_tokens,
        seed=settings.seed,
    )
    assert same.text == drawn.text
    with pytest.raises(StorageError, match="checkpoint not found"):
        await draw(client, run.checkpoints_path / "step-000000001")
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    (checkpoint / "manifest.json").touch()
    with pytest.raises(StorageError, match=r"model\.safetensors is damaged"):
        await draw(client, checkpoint)
    assert (await draw(client, checkpoint_path(run, "60"), max_new_tokens=5)).tokens == 5

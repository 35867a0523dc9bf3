"""SamplerClient: pieces, errors, cancelling, crashes and restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from rnnlm_tui.client.sampler import SamplerClient
from rnnlm_tui.errors import StorageError, WorkerError
from rnnlm_tui.schema.sampling import SampleDone, SamplePiece, SampleRequest
from tests.unit.client.conftest import FAKE_SAMPLER


@pytest_asyncio.fixture
async def client() -> AsyncIterator[SamplerClient]:
    client = SamplerClient(FAKE_SAMPLER)
    yield client
    await client.close()


def request(prompt: str, name: str = "a") -> SampleRequest:
    return SampleRequest(id=name, checkpoint="/nowhere", prompt=prompt)


async def draw(client: SamplerClient, asked: SampleRequest) -> list[SamplePiece | SampleDone]:
    return [answer async for answer in client.generate(asked)]


async def test_pieces_arrive_before_the_result(client: SamplerClient) -> None:
    answers = await draw(client, request("one two three"))
    assert [answer.text for answer in answers] == [" three", " two", " one", " three two one"]
    assert isinstance(answers[-1], SampleDone)


async def test_concurrent_requests_get_their_own_answers(client: SamplerClient) -> None:
    first, second = await asyncio.gather(
        draw(client, request("a b", "1")), draw(client, request("c d", "2"))
    )
    assert (first[-1].text, second[-1].text) == (" b a", " d c")


async def test_a_samplers_error_is_raised_as_the_same_kind(client: SamplerClient) -> None:
    with pytest.raises(StorageError, match="the checkpoint is damaged") as caught:
        await draw(client, request("please fail"))
    assert caught.value.hint == "take another"
    with pytest.raises(StorageError, match="no such checkpoint"):
        await client.load("/missing")
    await client.load("/there")


async def test_a_cancelled_request_ends_as_cancelled(client: SamplerClient) -> None:
    answers = []
    async for answer in client.generate(request("wait here")):
        answers.append(answer)
        if len(answers) == 2:
            await client.cancel("a")
    assert isinstance(answers[-1], SampleDone)
    assert answers[-1].reason == "cancelled"


async def test_leaving_the_iteration_cancels_the_request(client: SamplerClient) -> None:
    drawn = client.generate(request("wait here"))
    assert (await anext(drawn)).text == " here"
    await drawn.aclose()
    assert (await draw(client, request("next", "b")))[-1].text == " next"


async def test_an_id_can_be_reused_while_its_first_iteration_is_open(
    client: SamplerClient,
) -> None:
    left_open = client.generate(request("first"))
    while not isinstance(await anext(left_open), SampleDone):
        pass
    second = client.generate(request("wait second"))
    assert (await anext(second)).text == " second"
    await left_open.aclose()
    await client.cancel("a")
    assert [answer async for answer in second][-1].text == " second wait"


async def test_a_dead_sampler_is_reported_with_its_output_and_restarted(
    client: SamplerClient,
) -> None:
    with pytest.raises(WorkerError, match="the sampler exited"):
        await draw(client, request("die now"))
    assert not client.alive
    assert (await draw(client, request("alive again")))[-1].text == " again alive"


async def test_a_sampler_that_fails_to_start_is_reported() -> None:
    client = SamplerClient([*FAKE_SAMPLER, "broken"])
    with pytest.raises(WorkerError, match="the sampler exited"):
        await client.start()
    await client.close()


async def test_close_leaves_no_process(client: SamplerClient) -> None:
    await client.start()
    assert client.alive
    await client.close()
    await client.close()
    assert not client.alive

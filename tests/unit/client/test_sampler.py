"""SamplerClient: pieces, errors, cancelling, crashes and restarts."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from unittest.mock import patch

import pytest
import pytest_asyncio

from rnnlm_tui.client.control import NICENESS_VARIABLE
from rnnlm_tui.client.sampler import SamplerClient
from rnnlm_tui.errors import RunStateError, StorageError, WorkerError
from rnnlm_tui.schema.sampling import (
    Alternatives,
    AlternativesRequest,
    Inspection,
    InspectRequest,
    KeepStateRequest,
    SampleDone,
    SamplePiece,
    SampleRequest,
    ScoreDone,
    ScorePiece,
    ScoreRequest,
    StateKept,
)
from rnnlm_tui.system.locks import folder_lock
from tests.unit.client.conftest import FAKE_SAMPLER


def running(*command: str) -> SamplerClient:
    """A client that starts this process."""
    with patch("rnnlm_tui.client.sampler.python_command", lambda *_: list(command)):
        return SamplerClient()


@pytest_asyncio.fixture
async def client() -> AsyncIterator[SamplerClient]:
    client = running(*FAKE_SAMPLER)
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


async def test_each_sample_of_a_request_ends(client: SamplerClient) -> None:
    asked = SampleRequest(id="a", checkpoint="/nowhere", prompt="one two", count=3)
    answers = await draw(client, asked)
    ends = [answer for answer in answers if isinstance(answer, SampleDone)]
    assert [(end.sample, end.text) for end in ends] == [
        (0, " two one"),
        (1, " one two"),
        (2, " two one"),
    ]
    assert {answer.sample for answer in answers if isinstance(answer, SamplePiece)} == {0, 1, 2}


async def test_questions_get_their_answers_among_others(client: SamplerClient) -> None:
    asked = InspectRequest(id="1", checkpoint="/nowhere", prompt="one two three")
    of = asked.model_dump(exclude={"kind", "id"})
    found, rows, kept = await asyncio.gather(
        client.ask(asked, Inspection),
        client.ask(AlternativesRequest(id="2", position=1, **of), Alternatives),
        client.ask(KeepStateRequest(id="3", position=1, name="x", path="/x", **of), StateKept),
    )
    assert [token.text for token in found.tokens] == ["one", " two", " three"]
    assert rows.taken is not None
    assert rows.taken.text == " two"
    assert kept.tokens == 2
    with pytest.raises(StorageError, match="the checkpoint is damaged"):
        await client.ask(InspectRequest(id="4", checkpoint="/nowhere", prompt="fail"), Inspection)


async def test_an_inspection_without_a_predicted_token_keeps_its_nan(client: SamplerClient) -> None:
    found = await client.ask(
        InspectRequest(id="a", checkpoint="/nowhere", prompt="one"), Inspection
    )
    assert math.isnan(found.bits_per_token)


async def test_leaving_a_question_cancels_it(client: SamplerClient) -> None:
    asked = InspectRequest(id="a", checkpoint="/nowhere", prompt="wait")
    waiting = asyncio.create_task(client.ask(asked, Inspection))
    await client.load("/there")
    sent: list[str] = []
    cancel = client.cancel

    async def recorded(id: str) -> None:
        sent.append(id)
        await cancel(id)

    client.cancel = recorded  # type: ignore[method-assign]
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert sent == ["a"]


async def test_a_checkpoint_is_in_use_until_its_sample_ends(
    client: SamplerClient, tmp_path: Path
) -> None:
    asked = request("a b c").model_copy(update={"checkpoint": str(tmp_path)})
    async with aclosing(client.generate(asked)) as pieces:
        await anext(pieces)
        with pytest.raises(RunStateError), folder_lock(tmp_path, wait=False):
            pass
    with folder_lock(tmp_path, wait=False):
        pass


async def test_a_score_ends_with_the_loss(client: SamplerClient, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("one two three")
    asked = ScoreRequest(id="a", checkpoint="/c", path=str(tmp_path / "text"), tokens=True)
    *pieces, done = [answer async for answer in client.score(asked)]
    assert isinstance(done, ScoreDone)
    assert (done.tokens, done.bytes) == (2, 13)
    words = [
        token.text for piece in pieces if isinstance(piece, ScorePiece) for token in piece.tokens
    ]
    assert "".join(words) == "one two three"


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
    client = running(*FAKE_SAMPLER, "broken")
    with pytest.raises(WorkerError, match="the sampler exited"):
        await client.start()
    await client.close()


async def test_a_sampler_that_yields_starts_at_a_priority_below_that_of_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    for wanted, niceness in (("", 15), ("12", 19), ("0", 0)):
        monkeypatch.setenv(NICENESS_VARIABLE, wanted)
        client = SamplerClient(yields="always")
        await client.start()
        try:
            assert client._process is not None
            pid = client._process.pid
            assert os.getsid(pid) == pid
            assert os.getpriority(os.PRIO_PROCESS, pid) == max(before, niceness)
            group = Path(f"/proc/{pid}/autogroup")
            if niceness and group.exists() and group.read_text().strip():
                assert group.read_text().endswith(f" nice {niceness}\n")
        finally:
            await client.close()


async def test_close_leaves_no_process(client: SamplerClient) -> None:
    await client.start()
    assert client.alive
    await client.close()
    await client.close()
    assert not client.alive


async def test_a_sampler_that_cannot_be_started_is_a_worker_error() -> None:
    client = running("/nowhere/python")
    with pytest.raises(WorkerError, match="can't be started: No such file"):
        await client.start()
    assert not client.alive

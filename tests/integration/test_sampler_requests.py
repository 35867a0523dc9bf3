"""A real sampler asked about the checkpoints of real runs: branches, states, surprise, scores."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from rnnlm_tui.client.control import NICENESS_VARIABLE
from rnnlm_tui.client.sampler import SamplerClient
from rnnlm_tui.errors import InputError, StorageError
from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.record import fields_of
from rnnlm_tui.schema.sampling import (
    MAX_PROMPT_CHARACTERS,
    Alternatives,
    AlternativesRequest,
    Inspection,
    InspectRequest,
    KeepStateRequest,
    SampleDone,
    SampleRequest,
    StateKept,
    StateMap,
    StatesRequest,
)
from rnnlm_tui.store.addresses import checkpoint_path
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.states import find_state, new_state_path
from tests.faults.workers import Workers, warm_starts
from tests.integration.runs import start, tiny_config, wait_until_ended, write_text

pytestmark = pytest.mark.asyncio(loop_scope="module")

RUNS: Mapping[str, Mapping[str, object]] = {
    "characters": {},
    "gated": {
        "model.cell_type": "lstm",
        "model.embedding_dim": 20,
        "model.hidden_size": 20,
        "model.num_layers": 1,
    },
    "bytes": {"tokenizer.kind": "byte", "tokenizer.vocab_size": 258},
    "cached": {"model.cell_type": "transformer", "model.attention_window": 16},
    "words": {
        "tokenizer.kind": "word",
        "training.data_mode": "sentences",
        "training.context_length": 9,
    },
}


@pytest.fixture(scope="module")
def trained(
    workers: Workers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Path]]:
    """The last checkpoint of each run."""
    folder = tmp_path_factory.mktemp("trained")
    text, test = write_text(folder / "text.txt"), write_text(folder / "test.txt", 120)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RNNLM_TUI_HOME", str(folder / "home"))
        with warm_starts(workers):
            runs = {
                name: start(tiny_config(text, {"corpus.test_source": str(test), **changes}), name)
                for name, changes in RUNS.items()
            }
            for run in runs.values():
                wait_until_ended(run)
        yield {name: checkpoint_path(run, "last") for name, run in runs.items()}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[SamplerClient]:
    client = SamplerClient()
    yield client
    await client.close()


def asked(checkpoint: Path, prompt: str = "The cat", **changes: object) -> SampleRequest:
    """A request for a sample; settings are changed by name."""
    settings = {
        name: changes.pop(name) for name in list(changes) if name in fields_of(SamplingConfig)
    }
    return SampleRequest.model_validate(
        {
            "id": f"{prompt}{changes}{settings}",
            "checkpoint": str(checkpoint),
            "prompt": prompt,
            "settings": SamplingConfig.model_validate(
                {"max_new_tokens": 60, "top_p": 1.0, "unknown": "avoid", **settings}
            ),
            **changes,
        }
    )


def text_of(request: SampleRequest, **changes: object) -> dict[str, object]:
    """What another request about the same text has in common with it."""
    common = request.model_dump(include={"id", "checkpoint", "prompt", "ids", "state", "settings"})
    return {**common, **changes}


async def samples(client: SamplerClient, request: SampleRequest) -> list[SampleDone]:
    return [part async for part in client.generate(request) if isinstance(part, SampleDone)]


async def sample(client: SamplerClient, checkpoint: Path, **changes: object) -> SampleDone:
    [done] = await samples(client, asked(checkpoint, **changes))  # type: ignore[arg-type]
    return done


async def test_a_seed_determines_the_text_and_the_run_samples_the_same(
    client: SamplerClient, trained: dict[str, Path]
) -> None:
    checkpoint = trained["characters"]
    first = await sample(client, checkpoint, seed=1)
    assert (first.tokens, first.reason) == (60, "length")
    assert first.bits_per_token > 0
    assert (await sample(client, checkpoint, seed=1)).text == first.text
    assert (await sample(client, checkpoint, seed=2)).text != first.text
    other = checkpoint.with_name("step-000000040")
    assert (await sample(client, other, seed=1)).text != first.text
    greedy = [await sample(client, checkpoint, greedy=True, seed=seed) for seed in (1, 2)]
    assert greedy[0].text == greedy[1].text
    run = RunDirectory(checkpoint.parents[1])
    with RunReader(run) as reader:
        drawn = reader.samples(1)[0]
    same = await sample(client, checkpoint, **run.read_config().sampling.model_dump())
    assert (drawn.step, same.text) == (60, drawn.text)


@pytest.mark.parametrize("name", ["characters", "gated", "bytes", "words"])
async def test_a_continued_text_equals_one_sampled_in_one_go(
    client: SamplerClient, trained: dict[str, Path], name: str
) -> None:
    whole = await sample(client, trained[name], seed=3)
    begun = await sample(client, trained[name], seed=3, max_new_tokens=25)
    rest = await sample(client, trained[name], seed=3, max_new_tokens=35, ids=begun.ids)
    assert begun.ids + rest.ids == whole.ids
    assert begun.text + rest.text == whole.text
    assert rest.prompt_tokens == begun.prompt_tokens + 25


@pytest.mark.parametrize(
    ("prompt", "unknown"),
    [
        ("", ()),
        ("The \0\x1b漢 cat", ("\0", "\x1b", "漢")),
        ("ß" * MAX_PROMPT_CHARACTERS, ("ß",)),
    ],
    ids=["empty", "odd", "long"],
)
async def test_unusual_prompts_are_continued_and_unknown_characters_reported(
    client: SamplerClient, trained: dict[str, Path], prompt: str, unknown: tuple[str, ...]
) -> None:
    done = await sample(client, trained["characters"], prompt=prompt, max_new_tokens=20)
    assert (done.tokens, done.unknown) == (20, unknown)


async def test_a_sample_reports_the_blanks_of_its_prompt_that_it_repeated(
    client: SamplerClient, trained: Mapping[str, Path]
) -> None:
    plain, spaced = [
        await sample(client, trained["words"], prompt=prompt) for prompt in ("The cat", "The cat  ")
    ]
    assert (plain.unread, plain.repeated) == (0, "")
    assert (spaced.ids, spaced.unread) == (plain.ids, 2)
    assert spaced.repeated + spaced.text == plain.text
    assert spaced.repeated == " "
    letters = await sample(client, trained["characters"], prompt="The cat ")
    assert (letters.unread, letters.repeated) == (0, "")


@pytest.mark.parametrize("name", ["characters", "bytes", "words"])
async def test_an_inspection_has_the_text_and_the_surprise_of_the_sample(
    client: SamplerClient, trained: dict[str, Path], name: str
) -> None:
    request = asked(trained[name], seed=3, temperature=1.3)
    [done] = await samples(client, request)
    found = await client.ask(
        InspectRequest.model_validate(text_of(request, ids=done.ids)), Inspection
    )
    assert "".join(token.text for token in found.tokens) == request.prompt + done.text
    new = found.tokens[found.prompt_tokens :]
    assert [token.token for token in new] == list(done.ids)
    assert sum(token.bits or 0 for token in new) == pytest.approx(
        done.bits_per_token * done.tokens, rel=1e-5
    )
    predicted = [token for token in found.tokens if token.bits is not None]
    bits = sum(token.bits or 0 for token in predicted)
    assert found.bits_per_token == pytest.approx(bits / len(predicted))
    size = sum(token.bytes for token in predicted)
    if name == "bytes":  # also where they are no characters; the padding token has none
        assert size == sum(token.token != 0 for token in predicted)
    else:
        assert size == len("".join(token.text for token in predicted).encode())
    assert found.bits_per_byte == pytest.approx(bits / size)
    assert found.tokens[0].bits is None
    assert (found.hidden_size, found.num_layers) == (24, 2)


async def test_alternatives_after_the_filters_sum_to_one_and_removed_ones_are_shown(
    client: SamplerClient, trained: dict[str, Path]
) -> None:
    for settings, names in (
        ({"top_k": 5}, {"excluded", "top-k"}),
        ({"temperature": 0.7, "top_p": 0.6}, {"excluded", "top-p"}),
        ({"min_p": 0.2, "repetition_penalty": 1.3}, {"excluded", "min-p"}),
        ({"typical_p": 0.5}, {"excluded", "typical-p"}),
        ({"greedy": True}, {"excluded", "greedy"}),
        ({"unknown": "allow"}, set()),
    ):
        request = asked(trained["characters"], **settings)
        position = len("The cat") + 1
        found = await client.ask(
            AlternativesRequest.model_validate(text_of(request, position=position, count=50)),
            Alternatives,
        )
        assert found.taken is None
        assert found.vocab_size <= 50
        assert sum(row.probability for row in found.rows) == pytest.approx(1)
        assert sum(row.filtered for row in found.rows) == pytest.approx(1)
        removed = [row for row in found.rows if row.removed_by]
        assert {row.removed_by for row in removed} == names
        assert all(row.filtered == 0 for row in removed)
        assert [row.rank for row in found.rows] == list(range(1, len(found.rows) + 1))
        assert found.filtered_entropy < found.entropy + 1e-9
        taken = await sample(client, trained["characters"], max_new_tokens=1, **settings)
        chosen = next(row for row in found.rows if row.token == taken.ids[0])
        assert chosen.filtered > 0


async def test_a_sample_reports_what_each_token_was_chosen_from(
    client: SamplerClient, trained: dict[str, Path]
) -> None:
    request = asked(
        trained["words"], seed=2, top_k=4, repetition_penalty=1.2, max_new_tokens=12, alternatives=6
    )
    [done] = await samples(client, request)
    assert [choice.taken.token for choice in done.choices] == list(done.ids)
    assert "".join(choice.taken.text for choice in done.choices) == done.text
    for place, choice in enumerate(done.choices):
        assert len(choice.alternatives) == 6
        found = await client.ask(
            AlternativesRequest.model_validate(
                text_of(
                    request,
                    ids=done.ids[:place],
                    position=done.prompt_tokens + place,
                    count=6,
                )
            ),
            Alternatives,
        )
        for row, other in zip(found.rows, choice.alternatives, strict=True):
            assert (row.token, row.text, row.removed_by) == (
                other.token,
                other.text,
                other.removed_by,
            )
            assert row.filtered == pytest.approx(other.filtered, abs=1e-6)


async def keep(
    client: SamplerClient, request: SampleRequest, name: str, position: int | None
) -> StateKept:
    return await client.ask(
        KeepStateRequest.model_validate(
            text_of(request, position=position, name=name, path=str(new_state_path(name)))
        ),
        StateKept,
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def other() -> AsyncIterator[SamplerClient]:
    """A second sampler process."""
    client = SamplerClient()
    yield client
    await client.close()


@pytest.mark.parametrize("name", ["characters", "gated", "cached", "bytes"])
async def test_a_kept_state_continues_as_its_text_does_from_another_process_too(
    client: SamplerClient, other: SamplerClient, trained: dict[str, Path], name: str
) -> None:
    request = asked(trained[name], seed=4)
    [whole] = await samples(client, request)
    middle = whole.prompt_tokens + 20
    kept = await keep(client, request.model_copy(update={"ids": whole.ids}), "middle", middle - 1)
    info = find_state("middle")
    assert (kept.tokens, info.tokens) == (middle, middle)
    for process in (client, other):
        rest = await sample(process, trained[name], prompt="", seed=4, state=kept.path)
        assert rest.ids[:40] == whole.ids[20:]
        assert (info.text + rest.text).startswith(request.prompt + whole.text)


@pytest.mark.parametrize("name", ["characters", "gated", "cached", "bytes"])
async def test_a_prompt_after_a_kept_state_is_read_as_part_of_the_text(
    client: SamplerClient, other: SamplerClient, trained: dict[str, Path], name: str
) -> None:
    begun, more = "The old dog sat on", " a mat and the"
    kept = await keep(client, asked(trained[name], begun), "begun", None)
    whole = await sample(client, trained[name], prompt=begun + more)
    for process in (client, other):
        rest = await sample(process, trained[name], prompt=more, state=kept.path)
        assert (rest.ids, rest.text) == (whole.ids, whole.text)
        assert rest.prompt_tokens == len(more)


async def test_a_state_of_another_model_is_refused_with_both(
    client: SamplerClient, trained: dict[str, Path]
) -> None:
    kept = await keep(client, asked(trained["characters"]), "mine", 3)
    with pytest.raises(InputError, match="elman, 2 x 24, this one is lstm, 1 x 20"):
        await sample(client, trained["gated"], state=kept.path)
    with pytest.raises(InputError, match=r"SHA-256 \w+…, this model has 258 types, SHA-256 \w+…"):
        await sample(client, trained["bytes"], state=kept.path)
    with pytest.raises(InputError, match="exists already"):
        await client.ask(
            KeepStateRequest.model_validate(
                text_of(asked(trained["characters"]), position=3, name="mine", path=kept.path)
            ),
            StateKept,
        )
    Path(kept.path).write_bytes(Path(kept.path).read_bytes()[:-1])
    with pytest.raises(StorageError, match="is damaged"):
        await sample(client, trained["characters"], state=kept.path)
    Path(kept.path).unlink()
    with pytest.raises(StorageError, match="No such file"):
        await sample(client, trained["characters"], state=kept.path)


async def test_the_states_of_a_text_have_their_units_in_the_wanted_order(
    client: SamplerClient, trained: dict[str, Path]
) -> None:
    request = asked(trained["gated"], "The cat sat on the mat. The old dog.")
    maps = {}
    for order, query in (("index", ""), ("memory", ""), ("search", "space")):
        maps[order] = await client.ask(
            StatesRequest.model_validate(text_of(request, order=order, query=query)), StateMap
        )
    for found in maps.values():
        assert sorted(found.units) == list(range(20))
        assert found.tokens == len("The cat sat on the mat. The old dog.") + 1
        assert len(base64.b64decode(found.values)) == 20 * found.tokens
        assert len(found.norm) == len(found.change) == len(found.saturated) == found.tokens
        assert set(found.gates) == {"input", "forget", "output"}
    assert maps["index"].units == tuple(range(20))
    assert list(maps["memory"].memory) == sorted(maps["memory"].memory, reverse=True)
    assert list(maps["search"].match) == sorted(maps["search"].match, reverse=True)
    rows = base64.b64decode(maps["index"].values)
    first = maps["memory"].units[0]
    width = maps["index"].tokens
    assert base64.b64decode(maps["memory"].values)[:width] == rows[first * width : -1][:width]
    values = [(byte + 128) % 256 - 128 for byte in rows]
    assert max(map(abs, values)) == 127
    assert 0 < maps["index"].scale <= 1
    with pytest.raises(InputError, match="layer 3 is not in 0 to 0"):
        await client.ask(StatesRequest.model_validate(text_of(request, layer=3)), StateMap)


async def test_a_wrong_request_is_refused_and_the_next_one_answered(
    client: SamplerClient, trained: dict[str, Path], tmp_path: Path
) -> None:
    copy = tmp_path / "run" / "checkpoints" / trained["characters"].name
    shutil.copytree(trained["characters"], copy)
    assert (await sample(client, copy, max_new_tokens=3)).tokens == 3
    with pytest.raises(InputError, match="token 9999 is outside the vocabulary"):
        await sample(client, copy, ids=(9999,))
    with pytest.raises(InputError, match="position 9 is not in 0 to 8"):
        await client.ask(
            AlternativesRequest.model_validate(text_of(asked(copy), position=9)), Alternatives
        )
    with pytest.raises(InputError, match="nothing predicts the first token"):
        await client.ask(
            AlternativesRequest.model_validate(text_of(asked(copy), position=0)), Alternatives
        )
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    (copy / "manifest.json").touch()
    with pytest.raises(StorageError, match=r"model\.safetensors is damaged"):
        await sample(client, copy)
    shutil.rmtree(copy)
    with pytest.raises(StorageError, match="not found"):
        await client.ask(InspectRequest.model_validate(text_of(asked(copy))), Inspection)
    assert (await sample(client, trained["characters"], max_new_tokens=3)).tokens == 3


async def test_a_sampler_that_yields_computes_at_a_priority_below_that_of_workers(
    trained: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NICENESS_VARIABLE, "1")
    before = os.getpriority(os.PRIO_PROCESS, 0)
    client = SamplerClient(yields="computing")
    try:
        await client.load(str(trained["gated"]))
        process = process_of(client)
        threads = [os.getpriority(os.PRIO_PROCESS, thread.id) for thread in process.threads()]
        assert max(before, 11) in threads
        assert process.nice() == before
    finally:
        await client.close()


def process_of(client: SamplerClient) -> psutil.Process:
    assert client._process is not None
    return psutil.Process(client._process.pid)

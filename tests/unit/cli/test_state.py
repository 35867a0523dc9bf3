"""The verbs `state …` with a fake sampler: keeping, listing, showing and deleting states."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnnlm_tui.schema.sampling import KeepStateRequest, StateKept
from rnnlm_tui.store.paths import states_dir
from rnnlm_tui.store.states import list_states
from tests.tui.fakes import FakeSampler
from tests.unit.cli.calls import Verbs
from tests.unit.cli.test_runs import trained_run
from tests.unit.store.test_states import keep


def write_state(request: KeepStateRequest) -> StateKept:
    """Write a state's file as the sampler does."""
    tokens = len(request.prompt.split())
    path = keep(request.name, run=request.run, step=2, tokens=tokens, note=request.note)
    unknown = ("ß", "\x1b") if "ß" in request.prompt else ()
    return StateKept(
        id=request.id, name=request.name, path=str(path), tokens=tokens, unknown=unknown
    )


@pytest.fixture(autouse=True)
def sampler(monkeypatch: pytest.MonkeyPatch) -> FakeSampler:
    """A run `brisk-heron` with the checkpoints 2 and 3, and a fake sampler."""
    trained_run()
    fake = FakeSampler(answers={KeepStateRequest: write_state})
    monkeypatch.setattr("rnnlm_tui.client.sampler.SamplerClient", lambda **_: fake)
    return fake


def test_the_state_after_the_last_token_of_a_text_is_kept(
    sampler: FakeSampler, verb: Verbs
) -> None:
    said = verb("state keep brisk-heron intro 'one two ß' --note 'a  note'")
    assert said.out.startswith("intro kept: 3 tokens read by brisk-heron@2, lstm, 2 x 1,024, ")
    assert "`rnnlm-tui sample brisk-heron '' --state intro` continues from it" in said.err
    assert "unknown to this model, read as <unk>: ß, ␛" in said.err
    (request,) = sampler.asked
    assert isinstance(request, KeepStateRequest)
    assert (request.prompt, request.position, request.run) == ("one two ß", None, "brisk-heron")
    assert request.note == "a note"
    assert request.path == str(states_dir() / "intro.safetensors")
    assert request.checkpoint.endswith("step-000000002")
    assert verb.json("state keep brisk-heron@3 next x --state intro")["name"] == "next"
    request = sampler.asked[-1]
    assert isinstance(request, KeepStateRequest)
    assert request.state == str(states_dir() / "intro.safetensors")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["brisk-heron", "../up", "x"], "invalid name for a state '../up'"),
        (["brisk-heron", "taken", "x"], 'a state "taken" exists already'),
        (["brisk-heron", "new", "x", "--state", "takn"], 'did you mean "taken"'),
        (["brisk-heron", "new", ""], "the text has no tokens"),
        (["brisk-heron", "new", "x" * 20_001], "20,001 characters, the limit is 20,000"),
        (["brisk-heron", "new", "\udcff"], "not UTF-8"),
        (["brisk-heron@9", "new", "x"], "best, last and 2, 3"),
        (["brisk-heron", "new", "x", "--note", "y" * 501], "the note has 501 characters"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else " ".join(value)[:30],
)
def test_a_state_that_cannot_be_kept_is_rejected(
    words: list[str], message: str, sampler: FakeSampler, verb: Verbs
) -> None:
    keep("taken")
    assert message in verb(["state", "keep", *words], code=2).err
    assert sampler.asked == []
    assert [info.name for info in list_states()] == ["taken"]


def test_states_are_listed_newest_first_with_damaged_ones_reported(verb: Verbs) -> None:
    assert verb("state list").out.startswith("no kept states: ")
    keep("older", created=1.0)
    keep("newer", created=2.0, run="", text="x" * 50 + "\nend")
    states_dir().joinpath("broken.safetensors").write_bytes(b"?")
    said = verb("state")
    rows = said.out.splitlines()
    assert said.firsts == ["newer", "older"]
    assert rows[1].endswith("…" + "x" * 36 + "\\nend")
    assert "step 3,700" in rows[1]
    assert "plain-otter@3700" in rows[2]
    assert "broken: " in said.err
    assert "damaged" in said.err
    problems = {one["name"]: one["problem"] for one in verb.json("state list")}
    assert (problems["newer"], problems["older"]) == (None, None)
    assert "damaged" in problems["broken"]


def test_a_state_is_shown_with_what_it_is_of(tmp_path: Path, verb: Verbs) -> None:
    path = keep("intro", note="after the colon")
    out = verb("state show intro").out
    for words in (
        "plain-otter@3700",
        "lstm, 2 x 1,024, vocabulary 2,048",
        "after the colon",
        "The state of the Union\\n",
        str(path),
    ):
        assert words in out
    assert verb.json("state show intro")["path"] == str(path)
    assert 'did you mean "intro"' in verb("state show intor", code=2).err
    copy = tmp_path / "copied.safetensors"
    copy.write_bytes(path.read_bytes())
    assert "copied" in verb(f"state show {copy}").out


def test_states_are_deleted_after_a_confirmation(verb: Verbs) -> None:
    for name in ("a", "b", "c"):
        keep(name)
    states_dir().joinpath("broken.safetensors").write_bytes(b"?")
    assert "add --yes" in verb("state delete a", code=2).err
    verb("state delete a missing --yes", code=2)
    assert "nothing was deleted" in verb("state delete a", code=1, typed="n\n").err
    assert [info.name for info in list_states() if not info.problem] == ["a", "b", "c"]
    deleted = verb.json("state delete a broken --yes")
    assert [one["name"] for one in deleted] == ["a", "broken"]
    assert verb("state delete b -y").out == "b deleted\n"
    assert [path.name for path in states_dir().iterdir()] == ["c.safetensors"]

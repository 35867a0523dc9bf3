"""The verbs `state …` with a fake sampler: keeping, listing, showing and deleting states."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rnnlm_tui.cli.main import run
from rnnlm_tui.schema.sampling import KeepStateRequest, StateKept
from rnnlm_tui.store.paths import states_dir
from rnnlm_tui.store.states import list_states
from tests.tui.fakes import FakeSampler
from tests.unit.cli.test_runs import trained_run
from tests.unit.store.test_states import keep


def write_state(request: KeepStateRequest) -> StateKept:
    """Write a state's file as the sampler does."""
    tokens = len(request.prompt.split())
    path = keep(request.name, run=request.run, step=2, tokens=tokens, note=request.note)
    return StateKept(id=request.id, name=request.name, path=str(path), tokens=tokens)


@pytest.fixture(autouse=True)
def sampler(monkeypatch: pytest.MonkeyPatch) -> FakeSampler:
    """A run `brisk-heron` with the checkpoints 2 and 3, and a fake sampler."""
    trained_run()
    fake = FakeSampler(answers={KeepStateRequest: write_state})
    monkeypatch.setattr("rnnlm_tui.client.sampler.SamplerClient", lambda **_: fake)
    return fake


def kept(sampler: FakeSampler) -> list[KeepStateRequest]:
    return [request for request in sampler.asked if isinstance(request, KeepStateRequest)]


def test_the_state_after_the_last_token_of_a_text_is_kept(
    sampler: FakeSampler, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["state", "keep", "brisk-heron", "intro", "one two three", "--note", "a  note"]
    assert run(words) == 0
    out, err = capsys.readouterr()
    assert out.startswith("intro kept: 3 tokens read by brisk-heron@2, lstm, 2 x 1,024, ")
    assert "`rnnlm-tui sample brisk-heron '' --state intro` continues from it" in err
    (request,) = sampler.asked
    assert isinstance(request, KeepStateRequest)
    assert (request.prompt, request.position, request.run) == ("one two three", None, "brisk-heron")
    assert request.note == "a note"
    assert request.path == str(states_dir() / "intro.safetensors")
    assert request.checkpoint.endswith("step-000000002")
    assert run(["state", "keep", "brisk-heron@3", "next", "x", "--state", "intro", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "next"
    assert kept(sampler)[-1].state == str(states_dir() / "intro.safetensors")


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
    words: list[str], message: str, sampler: FakeSampler, capsys: pytest.CaptureFixture[str]
) -> None:
    keep("taken")
    assert run(["state", "keep", *words]) == 2
    assert message in capsys.readouterr().err
    assert kept(sampler) == []
    assert [info.name for info in list_states()] == ["taken"]


def test_characters_outside_the_vocabulary_are_named(
    sampler: FakeSampler, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(request: KeepStateRequest) -> StateKept:
        return write_state(request).model_copy(update={"unknown": ("ß", "\x1b")})

    sampler.answers[KeepStateRequest] = write
    assert run(["state", "keep", "brisk-heron", "new", "ß\x1b"]) == 0
    assert "unknown to this model, read as <unk>: ß, ␛" in capsys.readouterr().err


def test_states_are_listed_newest_first_with_damaged_ones_reported(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["state", "list"]) == 0
    assert capsys.readouterr().out.startswith("no kept states: ")
    keep("older", created=1.0)
    keep("newer", created=2.0, run="", text="x" * 50 + "\nend")
    states_dir().joinpath("broken.safetensors").write_bytes(b"?")
    assert run(["state", "list"]) == 0
    out, err = capsys.readouterr()
    rows = out.splitlines()
    assert [row.split()[0] for row in rows] == ["name", "newer", "older"]
    assert rows[1].endswith("…" + "x" * 36 + "\\nend")
    assert "step 3,700" in rows[1]
    assert "plain-otter@3700" in rows[2]
    assert "broken" in err
    assert "damaged" in err
    assert run(["state", "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {one["name"]: one["problem"] is None for one in found} == {
        "newer": True,
        "older": True,
        "broken": False,
    }


def test_a_state_is_shown_with_what_it_is_of(capsys: pytest.CaptureFixture[str]) -> None:
    path = keep("intro", note="after the colon")
    assert run(["state", "show", "intro"]) == 0
    out = capsys.readouterr().out
    for words in (
        "plain-otter@3700",
        "lstm, 2 x 1,024, vocabulary 2,048",
        "after the colon",
        "The state of the Union\\n",
        str(path),
    ):
        assert words in out
    assert run(["state", "show", "intro", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(path)
    assert run(["state", "show", "intor"]) == 2
    assert 'did you mean "intro"' in capsys.readouterr().err


def test_states_are_deleted_after_a_confirmation(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b", "c"):
        keep(name)
    states_dir().joinpath("broken.safetensors").write_bytes(b"?")
    assert run(["state", "delete", "a"]) == 2
    assert "add --yes" in capsys.readouterr().err
    assert run(["state", "delete", "a", "missing", "--yes"]) == 2
    assert [info.name for info in list_states() if not info.problem] == ["a", "b", "c"]
    capsys.readouterr()
    assert run(["state", "delete", "a", "broken", "--yes", "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == ["a", "broken"]
    assert run(["state", "delete", "b", "-y"]) == 0
    assert capsys.readouterr().out == "b deleted\n"
    assert [path.name for path in states_dir().iterdir()] == ["c.safetensors"]


def test_a_path_can_stand_for_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "copied.safetensors"
    copy.write_bytes(keep("intro").read_bytes())
    assert run(["state", "show", str(copy)]) == 0
    assert "copied" in capsys.readouterr().out

"""Kept samples: appended, searched, deleted, restored and exported, also by several processes."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.sampling import SampleDone, SampleRequest
from rnnlm_tui.store import kept_samples
from rnnlm_tui.store.kept_samples import (
    SAMPLE_EXPORTS,
    KeptSample,
    append,
    delete,
    export,
    move_damaged_samples_aside,
    restore,
    search,
)
from rnnlm_tui.store.paths import samples_file

APPEND = """
import sys
from rnnlm_tui.store.kept_samples import append
from tests.unit.store.test_kept_samples import make
for number in range(int(sys.argv[2])):
    append(make(f"{sys.argv[1]} {number}", text="x" * 5_000))
"""
"""A process that appends many samples."""


def make(prompt: str, **changes: object) -> KeptSample:
    """A kept sample."""
    values: dict[str, object] = {
        "run": "plain-otter",
        "step": 3_700,
        "path": "/home/runs/plain-otter/checkpoints/step-000003700",
        "prompt": prompt,
        "text": " is strong.",
        "ids": (4, 9),
        "seed": 7,
        "settings": SamplingConfig(),
        "tokens": 2,
        "bits_per_token": 4.1,
        "reason": "length",
    }
    return KeptSample.model_validate({**values, **changes})


def prompts(samples: list[KeptSample]) -> list[str]:
    return [sample.prompt for sample in samples]


def appending(name: str, count: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", APPEND, name, str(count)], cwd=Path(__file__).parents[3]
    )


def test_samples_are_found_newest_first_exactly_as_they_were_kept(home: Path) -> None:
    assert search() == []
    assert not home.exists(), "looking creates nothing"
    kept = [make("one", text="\n\x1b[31m می\u200cخواهم \0\u2028 👩\u200d👧"), make("", seed=None)]
    for sample in kept:
        append(sample)
    assert search() == kept[::-1]
    assert samples_file().stat().st_mode & 0o777 == 0o600
    assert home.stat().st_mode & 0o777 == 0o700


def test_a_record_is_made_from_a_request_and_its_answer() -> None:
    request = SampleRequest(
        id="1",
        checkpoint="/c/step-000000020",
        prompt="The",
        ids=(1,),
        state="/s/a.safetensors",
        settings=SamplingConfig(seed=2**63 - 1),
    )
    done = SampleDone(
        id="1",
        sample=1,
        reason="stop",
        stop="\n",
        text=" state",
        ids=(2, 3),
        tokens=2,
        prompt_tokens=1,
        seconds=0.1,
        first_token_seconds=0.1,
        bits_per_token=float("nan"),
    )
    kept = KeptSample.of(request, done, run="plain-otter", step=20, before=" good")
    assert (kept.text, kept.ids, kept.tokens) == (" good state", (1, 2, 3), 3)
    assert (kept.seed, kept.settings.seed, kept.bits_per_token) == (0, 0, None)
    assert (kept.state, kept.path) == ("/s/a.safetensors", "/c/step-000000020")
    append(kept)
    assert search() == [kept]
    greedy = request.model_copy(update={"settings": SamplingConfig(greedy=True)})
    assert KeptSample.of(greedy, done, run="plain-otter", step=20).seed is None


def test_all_words_of_a_query_are_searched_in_prompt_text_and_run() -> None:
    append(make("The Union", text=" is STRONG"))
    append(make("The economy", text=" is strong", run="brisk-heron"))
    assert prompts(search("strong")) == ["The economy", "The Union"]
    assert prompts(search("STRONG union")) == ["The Union"]
    assert prompts(search("heron econ")) == ["The economy"]
    assert search("strong weak") == []
    assert prompts(search("the", run="plain-otter")) == ["The Union"]
    assert search(run="plain") == []


def test_deleted_samples_can_be_restored_in_their_place() -> None:
    for number in range(5):
        append(make(str(number), time=float(number)))
    all_samples = search()
    wanted = [sample.id for sample in all_samples if sample.prompt in ("1", "3")]
    removed = delete([*wanted, "unknown"])
    assert prompts(removed) == ["3", "1"]
    assert prompts(search()) == ["4", "2", "0"]
    assert delete(wanted) == []
    restore(removed)
    restore(removed)
    assert search() == all_samples
    assert samples_file().stat().st_mode & 0o777 == 0o600


def test_damaged_lines_are_skipped_and_moved_aside(home: Path) -> None:
    append(make("before"))
    in_no_year = json.dumps({**make("lost").model_dump(mode="json"), "time": 1e300}).encode()
    damaged = [b'{"prompt": 3}', b"\xff\x00", b"[" * 100_000, in_no_year, b'{"id": "x", "ti']
    with samples_file().open("ab") as file:
        file.write(b"\n\n" + b"\n".join(damaged))
    append(make("after"))
    assert prompts(search()) == ["after", "before"]
    assert all(sample.when for sample in search())
    assert (
        move_damaged_samples_aside()
        == "5 lines of the kept samples can't be read: kept as samples.jsonl.unusable"
    )
    assert (home / "samples.jsonl.unusable").read_bytes() == b"\n".join([*damaged, b""])
    assert move_damaged_samples_aside() == ""
    assert prompts(search()) == ["after", "before"]
    with samples_file().open("ab") as file:
        file.write(b"more\n")
    assert len(delete([search()[0].id])) == 1
    assert (home / "samples.jsonl.unusable-2").read_bytes() == b"more\n"


def test_fields_and_settings_of_a_newer_version_are_ignored_and_stay_in_the_file() -> None:
    append(make("one"))
    record = json.loads(samples_file().read_bytes())
    record["settings"]["mirostat"] = 2
    newer = json.dumps({**record, "id": "newer", "mood": "good"}).encode() + b"\n"
    samples_file().write_bytes(newer)
    append(make("two"))
    assert prompts(search()) == ["two", "one"]
    delete([search()[0].id])
    assert samples_file().read_bytes() == newer


def test_samples_of_two_processes_are_all_kept() -> None:
    processes = [appending(name, 40) for name in ("a", "b")]
    assert [process.wait() for process in processes] == [0, 0]
    found = prompts(search())[::-1]
    for name in ("a", "b"):
        assert [prompt for prompt in found if prompt.startswith(name)] == [
            f"{name} {number}" for number in range(40)
        ]
    assert move_damaged_samples_aside() == ""


def test_deleting_while_another_process_appends_loses_nothing() -> None:
    for number in range(50):
        append(make(f"old {number}"))
    process = appending("new", 60)
    for sample in search("old"):
        assert delete([sample.id]) == [sample]
    assert process.wait() == 0
    assert prompts(search())[::-1] == [f"new {number}" for number in range(60)]


def test_only_the_newest_samples_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_samples, "MAX_KEPT_SAMPLES", 20)
    for number in range(30):
        append(make(str(number)))
    assert prompts(search()) == [str(number) for number in range(29, 9, -1)]
    delete([search()[0].id])
    assert prompts(search()) == [str(number) for number in range(28, 9, -1)]


def test_a_long_file_is_cut_to_its_newest_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_samples, "_MAX_BYTES", 20_000)
    monkeypatch.setattr(kept_samples, "_BYTES_AFTER_CUT", 15_000)
    for number in range(100):
        append(make(str(number)))
        assert samples_file().stat().st_size <= 20_000
    found = prompts(search())
    assert found == [str(number) for number in range(99, 99 - len(found), -1)]
    assert len(found) > 20
    append(make("long", text="x" * 25_000))
    assert prompts(search()) == ["long"], "the newest is always kept"


def test_a_file_far_over_the_limit_is_read_from_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(100):
        append(make(str(number)))
    monkeypatch.setattr(kept_samples, "_MAX_BYTES", 3_000)
    found = prompts(search())
    assert found == [str(number) for number in range(99, 99 - len(found), -1)]
    assert found
    assert move_damaged_samples_aside() == ""


def test_a_full_disk_leaves_the_file_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    append(make("one"))
    before = samples_file().read_bytes()
    write, calls = os.write, list[int]()

    def fill(descriptor: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, bytes(data)[:10])

    monkeypatch.setattr(os, "write", fill)
    with pytest.raises(StorageError, match="No space left"):
        append(make("two"))
    assert samples_file().read_bytes() == before


def test_a_home_that_cannot_be_written_is_a_storage_error(home: Path) -> None:
    home.write_text("", encoding="utf-8")
    assert search() == []
    assert delete(["x"]) == []
    assert move_damaged_samples_aside() == ""
    with pytest.raises(StorageError):
        append(make("x"))
    with pytest.raises(StorageError):
        restore([make("x")])


def test_samples_in_a_read_only_home_are_found(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(make("one"))

    def refuse(path: Path, flags: int) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(kept_samples, "open_private", refuse)
    with pytest.raises(StorageError, match="Read-only file system") as caught:
        append(make("two"))
    assert "RNNLM_TUI_HOME" in caught.value.hint
    assert prompts(search()) == ["one"]


def test_a_link_in_place_of_the_file_is_not_written_through(home: Path) -> None:
    home.mkdir()
    target = home.parent / "other"
    target.write_text("", encoding="utf-8")
    samples_file().symlink_to(target)
    with pytest.raises(StorageError, match="symbolic link"):
        append(make("one"))
    assert target.read_bytes() == b""


def test_samples_are_exported_as_text_lines_of_json_and_markdown() -> None:
    samples = [
        make("The", text=" `code`\n```\nx", settings=SamplingConfig(top_k=40, stop=("\n",))),
        make("", seed=None, bits_per_token=None, reason="cancelled"),
    ]
    for format in SAMPLE_EXPORTS:
        assert export([], format) == ""
    text = export(samples, "text")
    assert text.startswith("--- plain-otter, step 3,700, 20")
    assert "--- seed 7, temperature 0.8, top-k 40, top-p 0.95, stop \\n, 2 tokens, 4.1 bits" in text
    assert "\nThe `code`\n```\nx\n\n--- plain-otter" in text
    assert "--- greedy, 2 tokens, cancelled\n is strong.\n" in text
    lines = export(samples, "jsonl").splitlines()
    assert [KeptSample.model_validate_json(line) for line in lines] == samples
    markdown = export(samples, "markdown")
    assert "Prompt:\n\n```text\nThe\n```\n" in markdown
    assert "Text:\n\n````text\n `code`\n```\nx\n````\n" in markdown
    assert markdown.count("Prompt:") == 1

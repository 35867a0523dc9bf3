"""Kept samples: appended, searched, deleted, restored and exported."""

from __future__ import annotations

from pathlib import Path

from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.sampling import SampleDone, SampleRequest
from rnnlm_tui.store.kept_samples import (
    SAMPLE_EXPORTS,
    KeptSample,
    all_samples,
    delete,
    export,
    restore,
    search,
)
from rnnlm_tui.store.paths import samples_file


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


def keep(*samples: KeptSample) -> None:
    for sample in samples:
        all_samples().append(sample)


def test_samples_are_found_newest_first_exactly_as_they_were_kept(home: Path) -> None:
    assert search() == []
    assert not home.exists(), "looking creates nothing"
    kept = [make("one", text="\n\x1b[31m می\u200cخواهم \0\u2028 👩\u200d👧"), make("", seed=None)]
    keep(*kept)
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
    keep(kept)
    assert search() == [kept]
    greedy = request.model_copy(update={"settings": SamplingConfig(greedy=True)})
    assert KeptSample.of(greedy, done, run="plain-otter", step=20).seed is None


def test_all_words_of_a_query_are_searched_in_prompt_text_and_run() -> None:
    keep(make("The Union", text=" is STRONG"))
    keep(make("The economy", text=" is strong", run="brisk-heron"))
    assert prompts(search("strong")) == ["The economy", "The Union"]
    assert prompts(search("STRONG union")) == ["The Union"]
    assert prompts(search("heron econ")) == ["The economy"]
    assert search("strong weak") == []
    assert prompts(search("the", run="plain-otter")) == ["The Union"]
    assert search(run="plain") == []


def test_deleted_samples_can_be_restored_in_their_place() -> None:
    for number in range(5):
        keep(make(str(number), time=float(number)))
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


def test_samples_are_exported_as_text_lines_of_json_and_markdown() -> None:
    samples = [
        make("The", text=" `code`\n```\nx", settings=SamplingConfig(top_k=40, stop=("\n",))),
        make("", seed=None, bits_per_token=None, reason="cancelled"),
    ]
    for format in SAMPLE_EXPORTS:
        assert export([], format) == ""
    text = export(samples, "text")
    assert text.startswith("--- plain-otter, step 3,700, 20")
    assert "--- seed 7, temperature 0.8, top-p 0.95, top-k 40, stop \\n, 2 tokens, 4.1 bits" in text
    assert "\nThe `code`\n```\nx\n\n--- plain-otter" in text
    assert "--- greedy, 2 tokens, cancelled\n is strong.\n" in text
    lines = export(samples, "jsonl").splitlines()
    assert [KeptSample.model_validate_json(line) for line in lines] == samples
    markdown = export(samples, "markdown")
    assert "Prompt:\n\n```text\nThe\n```\n" in markdown
    assert "Text:\n\n````text\n `code`\n```\nx\n````\n" in markdown
    assert markdown.count("Prompt:") == 1

"""Sampling through the app's own path: `python -m tests.benchmarks.app_sampling [--rounds 7]
[--tokens 2000] [--hidden 192] [--cell elman]`.

For a vocabulary of 4,096 and one of 32,011: the time to the first token with a warm sampler; tokens
per second of one text and of 8 at once through `SamplerClient` and its process, beside the bare
engine in this process, in turns; and the bytes per second that the app writes to a terminal of
120×40 while a text streams. The engine's ratios are of wall time and of processor time: only the
second is valid on a busy machine. Every figure is printed beside its bar.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psutil
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from rnnlm_tui.client.sampler import SamplerClient
from rnnlm_tui.corpus.codec import TextCodec
from rnnlm_tui.corpus.tokenizers import EOS, PAD, BuiltTokenizer
from rnnlm_tui.engine.checkpoint import load_model, write_model
from rnnlm_tui.engine.generation import Generation, lay_out_weights, read_text
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.schema.config import RunConfig, SamplingConfig
from rnnlm_tui.schema.sampling import SampleDone, SamplePiece, SampleRequest
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.runs import create_run
from tests.benchmarks.command_line import options, say, temporary_home
from tests.benchmarks.terminal_cost import opened_app, read_for, settle, watch
from tests.unit.client.logs import record
from tests.unit.engine.builders import built_model
from tests.unit.store.rows import step_row

VOCABULARIES = (4_096, 32_011)
AT_ONCE = 8
STREAMED_SECONDS = 10.0
_LETTERS = str.maketrans("0123456789", "abcdefghij")
FIRST_TOKEN_MS, LEAST_SHARE, LEAST_SPEEDUP, MOST_BYTES = 50.0, 0.9, 4.0, 8 * 1024
"""The bars."""


def word(place: int) -> str:
    """A word of the tokenizer: letters alone, since it splits words at digits."""
    return f"w{str(place).translate(_LETTERS)}"


PROMPT = " ".join(map(word, range(40)))


@dataclass(slots=True)
class Speeds:
    """Tokens per second of wall time and of processor time, by round."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def add(self, tokens: int, wall: float, processor: float) -> None:
        self.wall.append(tokens / wall)
        self.processor.append(tokens / processor)


def tokenizer_files(folder: Path, vocab_size: int) -> None:
    """A tokenizer of this many types, whose words carry the space before them."""
    names = [PAD, EOS, *(f"\u0120{word(place)}" for place in range(vocab_size - 2))]
    tokenizer = Tokenizer(models.WordLevel({name: at for at, name in enumerate(names)}, PAD))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in (PAD, EOS)])
    BuiltTokenizer(tokenizer, "bpe", PAD, EOS).save(folder, "\n")


def stored_run(name: str, vocab_size: int, cell: str, hidden: int) -> Path:
    """A run with one checkpoint of an untrained model; the checkpoint's folder."""
    config = parse_config(
        merge(
            RunConfig(),
            {
                "model.cell_type": cell,
                "model.embedding_dim": hidden,
                "model.hidden_size": hidden,
                "sampling.max_new_tokens": 1_000_000,
                "sampling.stop": [],
            },
        )
    )
    run = create_run(config, name)
    model = built_model(
        vocab_size=vocab_size,
        embedding_dim=hidden,
        hidden_size=hidden,
        num_layers=2,
        cell_type=cell,
        tie_weights=True,
        pad_id=0,
    )
    with torch.no_grad():  # Zipf's law, so that top-p has something to leave out
        model.output.bias.copy_(-torch.arange(2.0, vocab_size + 2).log())
        model.output.bias[:2] = -20.0  # no padding and no end
    with tempfile.TemporaryDirectory() as folder:
        tokenizer_files(Path(folder), vocab_size)
        path = write_checkpoint(
            run,
            1,
            lambda target: write_model(target, model, Path(folder)),
            None,
            {"validation_loss": 4.0},
        )
    record(run, step_row(1))
    return path


async def sampled(
    client: SamplerClient, checkpoint: Path, tokens: int, count: int, seed: int, prompt: str
) -> tuple[float, list[SampleDone]]:
    """Seconds to the first piece, and the ends of the samples."""
    request = SampleRequest(
        id=f"{seed}",
        checkpoint=str(checkpoint),
        prompt=prompt,
        count=count,
        settings=SamplingConfig(max_new_tokens=tokens, seed=seed),
    )
    began, first = time.perf_counter(), 0.0
    ends = []
    async for part in client.generate(request):
        first = first or time.perf_counter() - began
        if isinstance(part, SampleDone):
            ends.append(part)
        else:
            assert isinstance(part, SamplePiece)
    return first, ends


def engine_speed(checkpoint: Path, tokens: int, count: int, seed: int, speeds: Speeds) -> None:
    """Add a round of the bare engine in this process."""
    model, codec = MODELS[checkpoint]
    settings = SamplingConfig(seed=seed, max_new_tokens=tokens)
    wall, processor = time.perf_counter(), time.process_time()
    start = read_text(model, codec.prompt_ids(PROMPT))
    made = sum(map(len, Generation(model, start, settings, count=count)))
    speeds.add(made, time.perf_counter() - wall, time.process_time() - processor)


MODELS: dict[Path, tuple[RecurrentLanguageModel, TextCodec]] = {}


async def sampler_speed(
    client: SamplerClient, checkpoint: Path, tokens: int, count: int, seed: int, speeds: Speeds
) -> None:
    """Add a round through the sampler."""
    assert client._process is not None
    process = psutil.Process(client._process.pid)
    wall, before = time.perf_counter(), sum(process.cpu_times()[:2])
    _, ends = await sampled(client, checkpoint, tokens, count, seed, PROMPT)
    wall = time.perf_counter() - wall
    made = sum(end.tokens for end in ends)
    speeds.add(made, wall, sum(process.cpu_times()[:2]) - before)


async def measure(checkpoint: Path, rounds: int, tokens: int) -> None:
    """Print the figures of one checkpoint."""
    model = load_model(checkpoint)
    lay_out_weights(model)
    MODELS[checkpoint] = model, TextCodec(checkpoint)
    client = SamplerClient()
    engine, engine_many, one, many = Speeds(), Speeds(), Speeds(), Speeds()
    firsts = []
    try:
        await client.load(str(checkpoint))
        await sampled(client, checkpoint, 50, 1, 0, PROMPT)
        for turn in range(1, 1 + rounds):
            for place in range(4):  # another prompt each time, so that it is read
                prompt = f"{PROMPT} {word(turn)} {word(place)}"
                first, _ = await sampled(client, checkpoint, 20, 1, turn, prompt)
                firsts.append(1e3 * first)
            for speeds, count in ((one, 1), (many, AT_ONCE)):
                bare = engine if count == 1 else engine_many
                engine_speed(checkpoint, tokens, count, turn, bare)
                await sampler_speed(client, checkpoint, tokens, count, turn, speeds)
                engine_speed(checkpoint, tokens, count, turn, bare)
    finally:
        await client.close()
    say(f"\nvocabulary of {model.vocab_size:,}, {model.cell_type} 2 x {model.hidden_size}")
    show("first token, ms, median", median(firsts), FIRST_TOKEN_MS, below=True)
    show("first token, ms, longest", max(firsts), FIRST_TOKEN_MS, below=True)
    say(f"  one text: engine {median(engine.wall):,.0f} tokens/s, app {median(one.wall):,.0f}")
    say(f"  {AT_ONCE}: engine {median(engine_many.wall):,.0f}, app {median(many.wall):,.0f}")
    for what, of in (("wall time", "wall"), ("processor time", "processor")):
        show(f"app / engine, {what}", share(one, engine, of), LEAST_SHARE, below=False)
        figure = share(many, engine_many, of)
        show(f"app / engine at {AT_ONCE}, {what}", figure, LEAST_SHARE, below=False)
        gains = [all_ / app for all_, app in zip(getattr(many, of), getattr(one, of), strict=True)]
        show(f"{AT_ONCE} at once / one, {what}", median(gains), LEAST_SPEEDUP, below=False)


def share(app: Speeds, engine: Speeds, of: str) -> float:
    """The median of the app's speed over that of the engine just before and after."""
    own: list[float] = getattr(app, of)
    bare: list[float] = getattr(engine, of)
    turns = zip(own, bare[::2], bare[1::2], strict=True)
    return median([2 * speed / (before + after) for speed, before, after in turns])


def measure_terminal(name: str) -> None:
    """Print the bytes that the app writes while a text streams."""
    with opened_app(name) as terminal:
        terminal.wait_for(f"{name} ", 60)
        settle(terminal)
        terminal.send("4")
        read_for(terminal, 2.0)
        terminal.send(f"{word(1)} {word(2)} {word(3)}\r")
        terminal.wait_for(f"{word(3)} w", 60)
        read_for(terminal, 1.0)
        watched = watch(terminal, STREAMED_SECONDS)
        terminal.send("\x1b")
    show(f"{name}: bytes/s while streaming", watched.rate, MOST_BYTES, below=True)
    say(f"  the app used {watched.processor:.0f} % of a core")


def show(what: str, value: float, bar: float, *, below: bool) -> None:
    met = value <= bar if below else value >= bar
    figure = f"{value:,.2f}" if bar < 100 else f"{value:,.0f}"
    sign = "≤" if below else "≥"
    say(f"  {what:44}{figure:>10}   {sign} {bar:g} {'' if met else '  MISSED'}")


def main() -> None:
    """Measure and print."""
    given = options(__doc__, rounds=7, tokens=2_000, hidden=192, cell="elman", no_terminal=False)
    torch.set_num_threads(1)
    with temporary_home():
        runs = {
            f"otter-{size}": stored_run(f"otter-{size}", size, given.cell, given.hidden)
            for size in VOCABULARIES
        }
        for checkpoint in runs.values():
            asyncio.run(measure(checkpoint, given.rounds, given.tokens))
        say("")
        for name in () if given.no_terminal else runs:
            measure_terminal(name)


if __name__ == "__main__":
    main()

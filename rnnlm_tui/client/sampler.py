"""SamplerClient: start a sampler process, and ask it about models and texts."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import deque
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Literal, TypeVar, cast
from uuid import uuid4

from pydantic import BaseModel

from rnnlm_tui.errors import InputError, WorkerError, error_kind
from rnnlm_tui.schema.protocol import decode_line, encode_line
from rnnlm_tui.schema.sampling import (
    ANSWERS,
    CancelRequest,
    FolderReading,
    LoadRequest,
    SampleDone,
    SampleFailed,
    SamplePiece,
    SamplerAnswer,
    SampleRequest,
    SamplerReady,
    SamplerRequest,
    ScoreDone,
    ScorePiece,
    ScoreProgress,
    ScoreRequest,
)
from rnnlm_tui.system.locks import reading
from rnnlm_tui.system.processes import dependent_environment, python_command

LINE_BYTES = 64 << 20
"""Longest line from a sampler: a complete long text."""
START_SECONDS = 60.0
EXIT_SECONDS = 1.0
"""How long a sampler whose output ended may take to exit."""

SAMPLER_SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Its computing thread would return freed memory of its own arena again and again.
    "MALLOC_ARENA_MAX": "1",
}
"""One thread: a training run needs the other cores."""

AnswerT = TypeVar("AnswerT", bound=BaseModel)


class SamplerClient:
    """Starts a sampler process and sends it requests. If it died, the next call starts a new one.

    Args:
        device: where it computes: `cpu`, `cuda`, `cuda:N`, `mps` or `auto`. The sampler of an app
            uses the CPU, so that no training loses memory to it.
        yields: when a training run on this machine goes first: while the sampler computes, or also
            while it starts, which takes two seconds of processor time.

    Raises:
        InputError: RNNLM_TUI_NICENESS is invalid.
    """

    def __init__(
        self,
        *,
        device: str = "cpu",
        yields: Literal["never", "computing", "always"] = "never",
    ) -> None:
        arguments = ["--device", device]
        if yields != "never":
            from rnnlm_tui.client.control import sampler_niceness

            arguments += ["--niceness", str(sampler_niceness())]
            arguments += ["--nice-start"] if yields == "always" else []
        self._command = python_command("rnnlm_tui.worker.sampler", *arguments)
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._waiting: dict[str, asyncio.Queue[SamplerAnswer | None]] = {}
        self._last_words: deque[str] = deque(maxlen=20)
        self._starting = asyncio.Lock()

    @property
    def alive(self) -> bool:
        """Whether the sampler is running and its output is open."""
        return (
            self._process is not None
            and self._process.returncode is None
            and bool(self._tasks)
            and not self._tasks[0].done()
        )

    async def start(self) -> None:
        """Start the sampler, if it isn't running, and wait for its first line; it then imports
        torch.

        Raises:
            WorkerError: the sampler failed to start.
        """
        async with self._starting:
            if self.alive:
                return
            await self.close()
            self._last_words.clear()
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    env=dependent_environment(SAMPLER_SETTINGS),
                    limit=LINE_BYTES,
                    start_new_session=True,  # its priority counts against other sessions
                )
            except OSError as error:  # too many processes or files, no memory
                raise WorkerError(f"the sampler can't be started: {error.strerror}") from error
            ready = self._waiting.setdefault("", asyncio.Queue())
            self._tasks = [
                asyncio.create_task(self._read_answers(self._process)),
                asyncio.create_task(self._read_last_words(self._process)),
            ]
            try:
                first = await asyncio.wait_for(ready.get(), START_SECONDS)
            except TimeoutError:
                await self.close()
                raise WorkerError(
                    f"the sampler did not start within {START_SECONDS:.0f} s"
                ) from None
            except asyncio.CancelledError:  # the caller was cancelled
                await self.close()
                raise
            finally:
                self._waiting.pop("", None)
            if not isinstance(first, SamplerReady):
                raise self._death()

    async def ask(self, request: SamplerRequest, kind: type[AnswerT]) -> AnswerT:
        """The answer to a request that has one answer, of the type `kind`. Leaving the call
        cancels the request.

        Raises:
            RnnlmError: the sampler rejected the request; WorkerError if it died.
        """
        async with contextlib.aclosing(self._answers(request, kind)) as answers:
            async for answer in answers:
                if isinstance(answer, kind):
                    return answer
        raise self._death()

    def generate(self, request: SampleRequest) -> AsyncGenerator[SamplePiece | SampleDone, None]:
        """Yield pieces of text as they are generated, and one SampleDone for each of the request's
        samples. Leaving the iteration cancels the request.

        Raises:
            RnnlmError: the sampler rejected the request; WorkerError if it died.
        """
        answers = self._answers(request, SampleDone, count=request.count)
        return cast(AsyncGenerator[SamplePiece | SampleDone, None], answers)

    def score(
        self, request: ScoreRequest
    ) -> AsyncGenerator[ScoreProgress | ScorePiece | ScoreDone, None]:
        """Yield the progress and the scored tokens of a file, if the request wants them, then
        ScoreDone. Leaving the iteration cancels the request.

        Raises:
            RnnlmError: the sampler rejected the request; WorkerError if it died.
        """
        answers = self._answers(request, ScoreDone)
        return cast(AsyncGenerator[ScoreProgress | ScorePiece | ScoreDone, None], answers)

    async def _answers(
        self, request: SamplerRequest, last: type[BaseModel], *, count: int = 1
    ) -> AsyncGenerator[SamplerAnswer, None]:
        """Yield a request's answers until `count` of the type `last` came. Meanwhile its checkpoint
        isn't removed for a newer one: to start and import torch takes seconds."""
        with reading(Path(request.checkpoint)):
            await self.start()
            queue: asyncio.Queue[SamplerAnswer | None] = asyncio.Queue()
            self._waiting[request.id] = queue
            missing = count
            try:
                await self._write(request)
                while missing:
                    answer = await queue.get()
                    if answer is None:
                        raise self._death()
                    if isinstance(answer, SampleFailed):
                        missing = 0
                        raise error_kind(answer.exit_code)(answer.message, hint=answer.hint)
                    missing -= isinstance(answer, last)
                    yield answer
            finally:
                # an unfinished iteration may be closed after another began with the same id
                if self._waiting.get(request.id) is queue:
                    del self._waiting[request.id]
                if missing:
                    await self.cancel(request.id)

    async def cancel(self, id: str) -> None:
        """Cancel a request, queued or running. Samples end with a SampleDone whose reason is
        `cancelled`, all else with an error."""
        if self.alive:
            with contextlib.suppress(WorkerError):  # it died: nothing to cancel
                await self._write(CancelRequest(id=id))

    async def load(self, checkpoint: str, folder: FolderReading | None = None) -> None:
        """Load a checkpoint before its first sample.

        Args:
            folder: it is any folder of the Hugging Face layout.

        Raises:
            RnnlmError: the checkpoint can't be used; WorkerError if the sampler died.
        """
        request = LoadRequest(id=uuid4().hex, checkpoint=checkpoint, folder=folder)
        await self.ask(request, SamplerReady)

    async def close(self) -> None:
        """Kill the sampler: it only reads, and would notice a request to exit late while it imports
        torch or computes."""
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        self._process = None

    async def _write(self, message: BaseModel) -> None:
        process = self._process
        if process is None or process.stdin is None or not self.alive:
            raise self._death()
        try:
            process.stdin.write(encode_line(message))
            await process.stdin.drain()
        except (ConnectionError, RuntimeError) as error:
            raise self._death() from error

    async def _read_answers(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        try:
            while line := await process.stdout.readline():
                try:
                    answer = decode_line(line, *ANSWERS)
                except InputError:
                    # not a message: output of a library
                    self._last_words.append(line.decode("utf-8", "replace").rstrip())
                    continue
                if answer.id in self._waiting:
                    self._waiting[answer.id].put_nowait(answer)
            with contextlib.suppress(TimeoutError):  # for its exit code
                await asyncio.wait_for(process.wait(), EXIT_SECONDS)
        finally:
            for answers in self._waiting.values():
                answers.put_nowait(None)

    async def _read_last_words(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while line := await process.stderr.readline():
            self._last_words.append(line.decode("utf-8", "replace").rstrip())

    def _death(self) -> WorkerError:
        code = None if self._process is None else self._process.returncode
        words = next((line for line in reversed(self._last_words) if line.strip()), "")
        how = "" if code is None else f" (exit code {code})"
        if code == -signal.SIGKILL:
            how = ": it was killed, as Linux does when memory is used up"
        return WorkerError(
            f"the sampler exited{how}" + (f": {words}" if words else ""),
            hint="the next sample starts it again",
        )

"""The thread that writes a checkpoint beside training."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator

import pytest

from rnnlm_tui.worker.checkpoint_writer import YIELDING, BackgroundWriter


def test_whoever_waits_does_what_is_left() -> None:
    begun, asked, threads = threading.Event(), threading.Event(), list[str]()

    def pieces() -> Iterator[None]:
        for number in range(4):
            threads.append(threading.current_thread().name)
            if number == 0:
                begun.set()
                asked.wait(60)
            yield

    writer = BackgroundWriter(pieces())
    assert begun.wait(60)
    assert not writer.is_done
    writer._leave = True
    asked.set()
    writer.finish()
    assert writer.is_done
    here = threading.current_thread().name
    assert threads == ["checkpoint", here, here, here]


def test_an_error_is_raised_where_it_is_waited_for() -> None:
    def pieces() -> Iterator[None]:
        yield
        raise ValueError("broken")

    writer = BackgroundWriter(pieces())
    writer._thread.join(60)
    assert writer.is_done
    with pytest.raises(ValueError, match="broken"):
        writer.finish()


def test_without_another_thread_the_work_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    done = list[str]()

    def pieces() -> Iterator[None]:
        done.append(threading.current_thread().name)
        yield
        done.append(threading.current_thread().name)

    monkeypatch.setattr(threading.Thread, "start", refuses)
    writer = BackgroundWriter(pieces())
    assert writer.is_done
    writer.finish()
    assert done == [threading.current_thread().name] * 2


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
def test_the_thread_has_a_lower_priority_than_training() -> None:
    seen = list[int]()

    def pieces() -> Iterator[None]:
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        yield

    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    writer = BackgroundWriter(pieces())
    writer._thread.join(60)
    assert seen == [min(19, own + YIELDING)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own

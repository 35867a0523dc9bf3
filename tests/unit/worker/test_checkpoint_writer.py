"""The thread that writes a checkpoint beside training."""

from __future__ import annotations

import threading

import pytest

from rnnlm_tui.worker.checkpoint_writer import BackgroundWriter


def test_work_is_done_beside_and_waited_for() -> None:
    begun, asked, threads = threading.Event(), threading.Event(), list[str]()

    def work() -> None:
        begun.set()
        asked.wait(60)
        threads.append(threading.current_thread().name)

    writer = BackgroundWriter(work)
    assert begun.wait(60)
    assert not writer.is_done
    asked.set()
    writer.finish()
    assert writer.is_done
    assert threads == ["checkpoint"]


def test_an_error_is_raised_where_it_is_waited_for() -> None:
    def work() -> None:
        raise ValueError("broken")

    writer = BackgroundWriter(work)
    writer.wait(60)
    assert writer.is_done
    with pytest.raises(ValueError, match="broken"):
        writer.finish()


def test_without_another_thread_the_work_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    done = list[str]()
    monkeypatch.setattr(threading.Thread, "start", refuses)
    writer = BackgroundWriter(lambda: done.append(threading.current_thread().name))
    assert writer.is_done
    writer.finish()
    assert done == [threading.current_thread().name]

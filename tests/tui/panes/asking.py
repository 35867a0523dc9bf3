"""The prompt pane of a test's app, and what it last asked its sampler."""

from __future__ import annotations

from rnnlm_tui.schema.protocol import SampleRequest
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.prompt import PromptScreen
from tests.tui.fakes import FakeServices


def pane(app: RnnlmApp) -> PromptScreen:
    """The pane, which must be the one that shows."""
    screen = app.pane_screen
    assert isinstance(screen, PromptScreen)
    return screen


def last_request(services: FakeServices) -> SampleRequest:
    """The newest request of a sample."""
    return services.fake_sampler.requests[-1]

"""The prompt pane of a test's app, and its last sampling request."""

from __future__ import annotations

from rnnlm_tui.schema.sampling import SampleRequest
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.prompt import PromptScreen
from tests.tui.fakes import FakeServices


def pane(app: RnnlmApp) -> PromptScreen:
    """Return the prompt pane, which must be the visible one."""
    screen = app.pane_screen
    assert isinstance(screen, PromptScreen)
    return screen


def last_request(services: FakeServices) -> SampleRequest:
    """Return the newest sampling request."""
    return services.fake_sampler.requests[-1]

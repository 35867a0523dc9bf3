"""The draft that the config pane edits: where it comes from, its name, and that it outlives the app until it is started, saved or left for a run."""

from __future__ import annotations

from rnnlm_tui.contract.config import RunConfig
from rnnlm_tui.contract.presets import DEMO
from rnnlm_tui.tui.screens.form_keys import FormKeys
from rnnlm_tui.tui.widgets.content import safe_text
from rnnlm_tui.tui.widgets.form_draft import Draft, draft_from_json, draft_of, draft_to_json


class EditedDraft(FormKeys):
    """A screen with a form whose draft the app keeps."""

    def __init__(self) -> None:
        super().__init__()
        self._editing: Draft | None = None
        """The draft being edited; None while a run's frozen config shows."""
        self._given: RunConfig | None = None
        """What the app's draft was when this screen last took or gave it."""
        self._run_name = ""
        """That its run is to have; empty until one has been suggested."""

    @property
    def locked(self) -> bool:
        """Whether a run's frozen config shows."""
        return self._editing is None

    def _take_up(self) -> None:
        """Whether there is a draft to edit: the app's, or a new one where no run is open."""
        given = self.context.draft
        if given is None and self.context.run_directory is None:
            given = self.context.draft = DEMO
            self.context.draft_from = ""
        if given is None:
            self._editing = self._given = None
        elif given is not self._given or self._editing is None:
            kept = draft_from_json(self.context.settings.get("draft")) if self._given is None else None
            if kept is not None and kept[0].nearest_config() == given:
                self._begin(*kept)
            else:
                self._begin(Draft(given, safe_text(self.context.draft_from, limit=40)) if self.context.draft_from else draft_of(given))

    def _begin(self, draft: Draft, name: str = "") -> None:
        self._editing, self._run_name = draft, name
        self._give()
        if not name:
            self.context.in_thread(self.context.services.suggest_name, self._named)

    def _named(self, name: str) -> None:
        self._run_name = name
        self._keep()
        self.refresh_frame()

    def _give(self) -> None:
        """The app has the draft's nearest valid config, for the other panes and for coming back, and keeps the draft for the next start."""
        if self._editing is not None:
            self._given = self.context.draft = self._editing.nearest_config()
            self._keep()

    def _keep(self) -> None:
        """Not where the app let go of the draft meanwhile: it was started, or a run was opened."""
        kept = draft_to_json(self._editing, self._run_name) if self._editing is not None and self.context.draft is self._given else None
        if kept != self.context.settings.get("draft"):
            self.context.settings["draft"] = kept
            self.context.save_settings()

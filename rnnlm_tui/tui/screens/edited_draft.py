"""EditedDraft: the draft that the config pane edits; it is kept until it is started, saved or replaced."""

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
        """The draft being edited; None while a run's frozen config is shown."""
        self._shared: RunConfig | None = None
        """The app's draft when this screen last read or set it."""
        self._run_name = ""
        """The name for its run; empty until one has been suggested."""

    @property
    def locked(self) -> bool:
        """Whether a run's frozen config is shown."""
        return self._editing is None

    def _load_draft(self) -> None:
        """Take the app's draft, or a new one if no run is open."""
        given = self.context.draft
        if given is None and self.context.run_directory is None:
            given = self.context.draft = DEMO
            self.context.draft_from = ""
        if given is None:
            self._editing = self._shared = None
        elif given is not self._shared or self._editing is None:
            kept = draft_from_json(self.context.settings.get("draft")) if self._shared is None else None
            if kept is not None and kept[0].nearest_config() == given:
                self._begin(*kept)
            else:
                self._begin(Draft(given, safe_text(self.context.draft_from, limit=40)) if self.context.draft_from else draft_of(given))

    def _begin(self, draft: Draft, name: str = "") -> None:
        self._editing, self._run_name = draft, name
        self._share_draft()
        if not name:
            self.context.in_thread(self.context.services.suggest_name, self._set_name)

    def _set_name(self, name: str) -> None:
        self._run_name = name
        self._save_draft()
        self.refresh_frame()

    def _share_draft(self) -> None:
        """Set the app's draft to the nearest valid config, for other panes.

        The draft is saved for the next start.
        """
        if self._editing is not None:
            self._shared = self.context.draft = self._editing.nearest_config()
            self._save_draft()

    def _save_draft(self) -> None:
        """Save the draft, unless the app has dropped it: it was started, or a run was opened."""
        kept = draft_to_json(self._editing, self._run_name) if self._editing is not None and self.context.draft is self._shared else None
        if kept != self.context.settings.get("draft"):
            self.context.settings["draft"] = kept
            self.context.save_settings()

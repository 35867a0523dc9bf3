"""Handle keys in the order in which they were typed.

Textual runs a key's binding after the key has bubbled from the focused widget to the app, while
text goes into a field at once, and a key belongs to the widget that had the focus when it was
read. On a busy machine, or with keys sent in one go, `tab 5 enter` may act anywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.events import Key

if TYPE_CHECKING:
    from textual.widget import Widget as Mixed
else:
    Mixed = object  # with a widget as base, Textual would take the styles of the first base only


class OrderedKeys(Mixed):
    """Mixin for focusable widgets: runs bindings before the next key, and forwards late keys."""

    async def _on_key(self, event: Key) -> None:
        target = self.app.focused or self.app.screen
        if target is not self and (self.app.screen is not self.screen or self.screen.focused is not None):
            event.stop()
            event.prevent_default()
            target._forward_event(Key(event.key, event.character))
        elif await self.app._check_bindings(event.key):
            event.stop()  # all bindings were tried; an unbound key bubbles to the app, which says where it works
            event.prevent_default()

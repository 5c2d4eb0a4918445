"""All visitors of the page, by the name that the page gives their session."""

from __future__ import annotations

import hashlib
from pathlib import Path
from threading import Lock

from renoise.demo.studio import Studio
from renoise.demo.visitor import Visitor


class Visitors:
    """The visitors who have the page open.

    Args:
        studio: What they share.
        folder: Where their files are kept, each in a folder of its own.
    """

    def __init__(self, studio: Studio, folder: Path) -> None:
        self.studio = studio
        self.folder = folder
        self._by_session: dict[str, Visitor] = {}
        self._lock = Lock()

    def of(self, session: str) -> Visitor:
        """Returns the visitor of a session, who may be new."""
        name = hashlib.sha256(session.encode()).hexdigest()[:16]  # the browser chose the session's own name
        with self._lock:
            return self._by_session.setdefault(session, Visitor(self.studio, self.folder / name))

    def leave(self, session: str) -> None:
        """Ends what the visitor of a session does, and removes the visitor's files."""
        with self._lock:
            visitor = self._by_session.pop(session, None)
        if visitor is not None:
            visitor.leave()

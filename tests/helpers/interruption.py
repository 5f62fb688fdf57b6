"""Runs that are stopped: a workspace that saves the state at a chosen moment and ends the run there."""

from __future__ import annotations

from longtail.runs.workspace import Workspace


class Stop(Exception):
    """Ends a run as a signal would, without ending the process."""


def stopping(after: int) -> type[Workspace]:
    """A workspace whose tick number `after` (from 1) saves the state and raises Stop; earlier ticks do nothing."""

    class Stopping(Workspace):
        left = after

        def tick(self, state) -> None:
            self.left -= 1
            if not self.left:
                self.save(state())
                self.finish()
                raise Stop

    return Stopping

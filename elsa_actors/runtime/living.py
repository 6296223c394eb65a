"""The refs of all living processes and actors, in the order of their start."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

pykka_log = logging.getLogger("pykka")


class Living(dict[Any, None]):
    """An ordered dictionary with a list's face.

    It stands in the place of Pykka's own list, in which taking one out costs a walk over all.
    """

    def append(self, ref: Any) -> None:
        self[ref] = None

    def remove(self, ref: Any) -> None:
        if self.pop(ref, ref) is not None:
            raise ValueError(f"{ref!r} is not registered")

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self.keys()))

    def __reversed__(self) -> Iterator[Any]:
        return iter(list(self.keys())[::-1])

    def __getitem__(self, place: Any) -> Any:
        return list(self.keys())[place]


living = Living()
"""Who lives in this program. What is in here is held; an idle process is held by nothing else."""


def forget(ref: Any) -> None:
    """Take a dead process out."""
    if living.pop(ref, ref) is None and pykka_log.isEnabledFor(logging.DEBUG):
        pykka_log.debug(f"Unregistered {ref}")

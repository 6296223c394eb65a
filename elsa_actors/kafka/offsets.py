"""Decide up to where the messages of a partition are done."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any

_TRIM_AT = 64  # done batches are cut off the lists when there are so many, and they are the half


class _Batch:
    """Some delivered offsets; those before ``head`` are acked, and those in ``acked``."""

    __slots__ = ("acked", "head", "offsets")

    # In the first batch that is not done, the offset at head is there, and not acked.
    def __init__(self, offsets: Sequence[int]) -> None:
        self.offsets = offsets
        self.head = 0
        self.acked: set[int] = set()


class Offsets:
    """Which messages of one partition were delivered, which are acked, and up to where.

    ``position`` is where to continue: one past the last offset of the acked prefix, the messages
    that were delivered first and are all acked. Offsets may have gaps. ``unacked`` counts what was
    delivered and is not acked. A batch that is acked as a whole costs the same whatever its length.

        >>> offsets = Offsets(position=10)
        >>> offsets.delivered(range(10, 15))
        >>> offsets.ack(11), offsets.position
        (True, 10)
        >>> offsets.ack(10), offsets.position
        (True, 12)
        >>> offsets.ack_to(14), offsets.position, offsets.unacked
        (True, 15, 0)
    """

    __slots__ = ("_batches", "_first", "_lasts", "position", "unacked")

    def __init__(self, position: int) -> None:
        self.reset(position)

    def reset(self, position: int) -> None:
        """Forget all deliveries and acks; continue at this offset."""
        self.position = position
        self.unacked = 0
        # The batches from _first on are not done; _lasts has the last offset of each.
        self._batches: list[_Batch] = []
        self._lasts: list[int] = []
        self._first = 0

    def delivered(self, offsets: Sequence[int]) -> None:
        """These offsets, in growing order, were delivered; `offsets_of` makes them of messages.

        Kept as they are, not copied. Raises ValueError when they begin before what was delivered
        already, or before the position: `reset` comes first.
        """
        if not offsets:
            return
        expected = self._lasts[-1] + 1 if self._first < len(self._lasts) else self.position
        if offsets[0] < expected or offsets[-1] - offsets[0] < len(offsets) - 1:
            raise ValueError(
                f"expected growing offsets from {expected} on, got {len(offsets)} from"
                f" {offsets[0]} to {offsets[-1]}; reset(position) before delivering anew"
            )
        self._batches.append(_Batch(offsets))
        self._lasts.append(offsets[-1])
        self.unacked += len(offsets)

    def ack(self, offset: int) -> bool:
        """This one message is done; False, and no change, if it was not delivered or is acked."""
        place = self._batch_of(offset)
        if place is None:
            return False
        batch = self._batches[place]
        if place == self._first and batch.offsets[batch.head] == offset:
            batch.head += 1
            self.position = offset + 1
            if batch.acked or batch.head == len(batch.offsets):
                self._advance()
        else:
            index = bisect_left(batch.offsets, offset, batch.head)
            if batch.offsets[index] != offset or offset in batch.acked:
                return False
            batch.acked.add(offset)
        self.unacked -= 1
        return True

    def ack_to(self, offset: int) -> bool:
        """All that was delivered up to and with this offset is done.

        False, and no change, if nothing of it was left to ack, or the offset is still to come.
        """
        last = self._batch_of(offset)
        if last is None:
            return False
        unacked = self.unacked
        for batch in self._batches[self._first : last]:
            self.unacked -= len(batch.offsets) - batch.head - len(batch.acked)
        if last > self._first:
            self.position = self._lasts[last - 1] + 1
            self._first = last
        batch = self._batches[last]
        head = bisect_right(batch.offsets, offset, batch.head)
        if head > batch.head:
            later = {one for one in batch.acked if one > offset} if batch.acked else batch.acked
            self.unacked -= head - batch.head - (len(batch.acked) - len(later))
            batch.acked = later
            batch.head = head
            self.position = batch.offsets[head - 1] + 1
        self._advance()
        return self.unacked < unacked

    def _batch_of(self, offset: int) -> int | None:
        """The place of the batch that has this offset or the next one, None past all."""
        if self._first < len(self._lasts) and offset <= self._lasts[self._first]:
            return self._first
        place = bisect_left(self._lasts, offset, self._first)
        return None if place == len(self._lasts) else place

    def _advance(self) -> None:
        """Take along what was acked beyond the prefix and now belongs to it."""
        while self._first < len(self._batches):
            batch = self._batches[self._first]
            offsets, acked, head = batch.offsets, batch.acked, batch.head
            while acked and offsets[head] in acked:
                acked.remove(offsets[head])
                head += 1
            if head > batch.head:
                batch.head = head
                self.position = offsets[head - 1] + 1
            if head < len(offsets):
                break
            self._first += 1
        if self._first >= _TRIM_AT and self._first * 2 >= len(self._batches):
            del self._batches[: self._first], self._lasts[: self._first]
            self._first = 0

    def __repr__(self) -> str:
        return f"<Offsets position {self.position}, {self.unacked} unacked>"


def offsets_of(messages: Sequence[Any]) -> Sequence[int]:
    """The offsets of messages of one partition, in order: a range where there are no gaps.

    No message is looked at but the first and the last, unless there are gaps.
    """
    if not messages:
        return ()
    first, last = messages[0].offset, messages[-1].offset
    if last - first == len(messages) - 1:
        return range(first, last + 1)
    return [message.offset for message in messages]

"""Receipts: what became of single messages, beyond what a count can say, in the file of the channel's cursor.

A count says that all messages up to a number are acknowledged. It can't say that a later one is, too, nor that one of
them was refused. For these few there is a ring of outcomes, by sequence number, and another one of reasons.
"""

from __future__ import annotations

from struct import Struct

__all__ = ["MAX_REASON", "NOT_KEPT", "Receipts", "receipts_bytes"]

# The ring's slots, one for each message of a window, within these bounds: with 256 it fits into the cursor's page.
_FEWEST_SLOTS, _MOST_SLOTS = 256, 4096
_WORDS_BYTES = 64
_REFUSED, _FORGOTTEN, _REASONS, _SETTLED = range(4)
_REASON = Struct("<QH118s")
_REASON_SLOTS = 15
_SLOTS_AT = _WORDS_BYTES + _REASON_SLOTS * _REASON.size
# A slot is one aligned word, so it is never torn: the number's lower 48 bits, and 16 bits of outcome.
_OUTCOME_BITS, _OUTCOMES = 16, 2**16
_NUMBERS = 2**48
_ACKNOWLEDGED, _FIRST_REASON = 1, 2
_REASON_IDS = _OUTCOMES - _FIRST_REASON
MAX_REASON = 118
"""Bytes of a reason that are kept, in UTF-8."""
NOT_KEPT = "the reason was not kept"


def _slots_for(window: int) -> int:
    return min(max(_FEWEST_SLOTS, 1 << (window - 1).bit_length()), _MOST_SLOTS)


def receipts_bytes(window: int) -> int:
    """Return the bytes for a channel with this window."""
    return _SLOTS_AT + 8 * _slots_for(window)


class Receipts:
    """The outcomes of single messages. The gateway's end writes them, before it counts the message in the cursor; the
    app's end reads them. The writer may be killed between any two lines, or be broken: nothing that is read is followed
    unchecked, and an outcome that was overwritten is never taken for another.
    """

    def __init__(self, memory: memoryview, window: int) -> None:
        self._words = memory[:_WORDS_BYTES].cast("Q")
        self._reasons = memory[_WORDS_BYTES:_SLOTS_AT]
        self._slots = memory[_SLOTS_AT : receipts_bytes(window)].cast("Q")
        self._last = ("", 0)  # the last reason that was written, and its id

    # The gateway's end

    def settle(self, number: int, refusal: str) -> None:
        """Record that this message is acknowledged, though one before it is not; or that it was refused, and why."""
        outcome = _ACKNOWLEDGED
        if refusal:
            outcome = _FIRST_REASON + self._keep(refusal) % _REASON_IDS
            self._words[_REFUSED] = (self._words[_REFUSED] + 1) % 2**63
        index = number % len(self._slots)
        before = self._slots[index]
        if before % _OUTCOMES >= _FIRST_REASON and (old := before >> _OUTCOME_BITS) != number % _NUMBERS:
            self._words[_FORGOTTEN] = max(self._words[_FORGOTTEN], old)  # first: nobody may miss it in both places
        self._slots[index] = (number % _NUMBERS) << _OUTCOME_BITS | outcome
        self._words[_SETTLED] = (self._words[_SETTLED] + 1) % 2**63

    def reopen(self, acknowledged: int) -> None:
        """Forget the outcomes of messages beyond this number: an earlier gateway learned them, and the next publishes
        these messages again."""
        for index, slot in enumerate(self._slots):
            if slot and slot >> _OUTCOME_BITS > acknowledged:
                self._slots[index] = 0

    def _keep(self, reason: str) -> int:
        """Return the id under which this reason is kept."""
        if self._last[0] != reason:
            number = self._words[_REASONS] % 2**63 + 1
            self._words[_REASONS] = number
            text = reason.encode(errors="replace")[:MAX_REASON]
            at = number % _REASON_SLOTS * _REASON.size
            _REASON.pack_into(self._reasons, at, 0, 0, b"")  # nobody is to take one's text under the other's id
            _REASON.pack_into(self._reasons, at, 0, len(text), text)
            _REASON.pack_into(self._reasons, at, number, len(text), text)
            self._last = (reason, number)
        return self._last[1]

    # The app's end

    @property
    def settled(self) -> int:
        """A count of outcomes, which changes with each."""
        return self._words[_SETTLED]

    @property
    def refused(self) -> int:
        """A count of refusals, which changes with each."""
        return self._words[_REFUSED]

    @property
    def forgotten(self) -> int:
        """Up to this number, a message of which no outcome is kept may have been refused."""
        return self._words[_FORGOTTEN]

    def outcome(self, number: int) -> str | None:
        """Return the reason why it was refused; empty if it is acknowledged; `None` if nothing is recorded."""
        slot = self._slots[number % len(self._slots)]
        if not slot or slot >> _OUTCOME_BITS != number % _NUMBERS:
            return None
        outcome = slot % _OUTCOMES
        return "" if outcome == _ACKNOWLEDGED else self._reason(outcome)

    def refusals(self, first: int, last: int) -> list[tuple[int, str]]:
        """Return number and reason of all that are known to be refused, from `first` to `last`, in order."""
        found = [
            (slot >> _OUTCOME_BITS, slot % _OUTCOMES)
            for slot in self._slots
            if slot % _OUTCOMES >= _FIRST_REASON and first <= slot >> _OUTCOME_BITS <= last
        ]
        return [(number, self._reason(outcome)) for number, outcome in sorted(found)]

    def _reason(self, outcome: int) -> str:
        for index in range(_REASON_SLOTS):
            at = index * _REASON.size
            number, length, text = _REASON.unpack_from(self._reasons, at)
            if not number or _FIRST_REASON + number % _REASON_IDS != outcome or length > MAX_REASON:
                continue
            if _REASON.unpack_from(self._reasons, at)[0] == number:  # else it is being overwritten
                return str(text[:length], "utf-8", "replace") or NOT_KEPT
        return NOT_KEPT

    def close(self) -> None:
        for view in (self._words, self._reasons, self._slots):
            view.release()

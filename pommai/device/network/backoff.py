"""How long to wait before the next attempt to reach the relay.

Full jitter: any time between nothing and an upper bound that doubles with each failure. After a relay restarts, its
toys come back spread out and not all at once (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog,
2015). A relay that says goodbye says itself when to come back.
"""

from __future__ import annotations

from typing import Final

from pommai.errors import ConnectError
from pommai.protocol import ErrorCode, Goodbye

BASE_S: Final = 0.5
"""Upper bound of the first wait."""

CAP_S: Final = 30.0
"""Upper bound of every wait: a child who switches the router on again has the toy back within half a minute."""


def delay_s(failures: int, chance: float) -> float:
    """Seconds to wait after `failures` failed attempts in a row (1 or more).

    `chance`: a fresh random number from 0.0 to 1.0, drawn by the caller.
    """
    doublings = min(failures - 1, 16)  # far beyond the cap; keeps the power small after days without a network
    return chance * min(CAP_S, BASE_S * 2.0**doublings)


MAX_RETRY_AFTER_S: Final = 3600.0
"""The longest that a Goodbye may send a toy away."""


class SentAwayError(ConnectError):
    """The relay said goodbye.

    It named a time to come back, and the toy will.
    """

    def __init__(self, goodbye: Goodbye) -> None:
        self.retry_after_s = min(goodbye.retry_after_s, MAX_RETRY_AFTER_S)
        reason = _PARTINGS.get(goodbye.code, "")
        super().__init__(f"the relay said goodbye ({goodbye.code}){reason}")


_PARTINGS: Final = {
    ErrorCode.REVOKED: ": this toy's token is no longer valid; make one with `pommai relay token add`, give it to the "
    "toy with `pommai device set-token`",
    ErrorCode.REPLACED: ": another toy has come with the same token; give each its own",
    ErrorCode.UNSUPPORTED_VERSION: ": toy and relay are of different versions; update the older one",
}
"""What whoever looks after the toy can do about it; of the other reasons, nothing."""

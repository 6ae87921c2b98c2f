"""How long to wait before the next attempt to reach the relay.

Full jitter: any time between nothing and an upper bound that doubles with each failure. After a relay restarts, its
toys come back spread out and not all at once (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog,
2015).
"""

from __future__ import annotations

from typing import Final

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

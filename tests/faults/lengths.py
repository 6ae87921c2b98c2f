"""How long the long tests are: short enough for every commit, or as long as `make soak` (POMMAI_SOAK=1) wants them."""

from __future__ import annotations

import os
from typing import Final

_SOAK: Final = bool(os.environ.get("POMMAI_SOAK"))

KILLS: Final = int(os.environ.get("POMMAI_KILLS") or (200 if _SOAK else 20))
"""Power cuts."""

TURNS: Final = int(os.environ.get("POMMAI_TURNS") or (5000 if _SOAK else 500))

ALONE_S: Final = float(os.environ.get("POMMAI_ALONE_S") or 180)
"""How long a toy is left without network and sound card: always the whole three minutes that it has to live through."""

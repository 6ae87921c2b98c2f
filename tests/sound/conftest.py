"""Every test here has a PulseAudio of its own."""

from tests.pulse import pulse

__all__ = ["pulse"]

"""pommai: a voice companion that lives inside a child's toy."""

__version__ = "0.1.0"

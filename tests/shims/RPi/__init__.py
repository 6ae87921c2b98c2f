"""Stands in for the real package `RPi`: put `tests/shims` in front on the path (PYTHONPATH or sys.path)."""

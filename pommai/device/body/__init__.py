"""The hardware, and the virtual body that stands in for it."""

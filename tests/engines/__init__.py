"""The embedded engines as they are: real weights, real sound (make engines)."""

"""Contracts of the ports: the same checks for the scripted adapters and for the real ones."""

"""Tests of the relay without a network: turns, conversations, and what may be heard."""

"""Tests of the relay's pure modules."""

"""What the toy keeps in its SQLite file: events for the relay, phrases with audio, and what it remembers."""

"""A stream of tokens to sentences: each one as soon as it is sure to be over.

Pure. What comes out depends on the text alone, never on how it was cut into tokens, and joined it is the text that
went in, up to white space. A stop that may still go on ("3." before "5", "Mr." before a name, "..." before a small
letter) waits for the character that decides it; nothing else waits.
"""

from __future__ import annotations

import re
from typing import Final

MAX_CHARS: Final = 200
"""Longest sentence in characters, about 13 s of speech: what has no stop by then is cut at a clause."""

_MIN_CLAUSE_CHARS: Final = 40
"""A cut at a clause leaves at least this much before it, so that speech does not fall into crumbs."""

_WIDE_STOPS: Final = "\u3002\uff01\uff1f"
"""Chinese and Japanese full stop, exclamation and question mark: no space follows them."""

_STOP: Final = re.compile(
    rf"(?P<stop>[.!?\u2026]+|[{_WIDE_STOPS}]+)"
    r"(?P<closers>[\"')\]*\u2019\u201d\u00bb\u300d\u300f]*)"  # quotes and brackets that may follow, also wide ones
    r"|\n"
)

_CLAUSE: Final = re.compile(r"[,;:\u2013\u2014](?=\s)|[\u3001\uff0c]")
"""Comma, semicolon, colon and dashes before a space; wide commas anywhere."""

_LAST_WORD: Final = re.compile(r"[\w.]+$")

_TITLES: Final = frozenset(["mr", "mrs", "ms", "dr", "prof", "st", "mt", "capt", "sgt", "gen", "e.g", "i.e", "vs"])
"""Something always follows these: their full stop ends nothing."""

_ENDINGS: Final = frozenset(["a.m", "p.m", "etc", "jr", "sr", "inc", "ltd", "co", "approx", "u.s", "u.k"])
"""These may stand last: a capital after them begins a sentence."""


def encodable(text: str) -> str:
    """`text` with `?` for lone surrogates, which neither the wire nor the engines' native libraries can carry."""
    return text.encode("utf-8", "replace").decode()


class SentenceSplitter:
    """Collects the tokens of one reply. `push` each one, then `flush` once at the end of the stream."""

    def __init__(self, max_chars: int = MAX_CHARS) -> None:
        self._max_chars = max_chars
        self._text = ""

    def push(self, token: str) -> list[str]:
        """The sentences that `token` completes, oldest first; often none."""
        sentences = []
        for start in range(0, len(token), self._max_chars):  # what is pending stays short, however long the token is
            self._text += token[start : start + self._max_chars]
            while (end := self._sure_end()) is not None:
                sentences.append(self._text[:end].strip())
                self._text = self._text[end:]
        return sentences

    def flush(self) -> list[str]:
        """What is left, now that the stream is over: one sentence, or none."""
        rest, self._text = self._text.strip(), ""
        return [rest] if rest else []

    def _sure_end(self) -> int | None:
        """Where the first sentence of what is pending ends, if nothing that may still come can change it."""
        self._text = self._text.lstrip()
        window = self._text[: self._max_chars + 1]
        for match in _STOP.finditer(window):
            if not any(char.isalnum() for char in window[: match.start()]):
                continue
            ends = _ends(window, match)
            if ends is None:  # the window's last characters: more will tell
                break
            if ends:
                return match.end()
        return _cut(window, self._max_chars) if len(window) > self._max_chars else None


def _ends(text: str, match: re.Match[str]) -> bool | None:
    """Whether the stop ends a sentence; None where the character that decides it has not come yet."""
    stop, closers = match["stop"], match["closers"]
    if stop is None:  # a new line
        return True
    after = text[match.end() :]
    if not after:
        return None
    if stop[0] in _WIDE_STOPS:
        return True
    if not after[0].isspace():
        return False
    head = text[: match.start()]
    word = _LAST_WORD.search(head)
    last = word[0] if word and stop == "." else ""
    if last.lower() in _TITLES or head.isdigit() or (len(last) == 1 and last.isupper() and last != "I"):
        return False
    if "\n" in after[: len(after) - len(after.lstrip())]:
        return True
    if closers or (stop != "." and not stop.strip(".\u2026")) or last.lower() in _ENDINGS:
        following = after.lstrip()[:1]
        return not following.islower() if following else None
    return True


def _cut(window: str, max_chars: int) -> int:
    """Where to cut a text without a stop: after its last clause, else at its last space, else at `max_chars`."""
    clauses = [match.end() for match in _CLAUSE.finditer(window, _MIN_CLAUSE_CHARS)]
    if clauses:
        return clauses[-1]
    space = max(window.rfind(char) for char in " \t")
    return space if space > 0 else max_chars

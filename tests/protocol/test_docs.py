"""docs/protocol.md tells the truth: its tables are generated from the code, every message and code is in it.

Rewrite the generated parts with `python -m tests.protocol.test_docs`.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from pommai.link import ALLOWED, ASIDE, WELCOMED, Phase
from pommai.protocol import AudioFrame, ErrorCode, PhraseChunk
from pommai.wire import CONTROL, type_name

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"

MEANINGS = {
    ErrorCode.BAD_MESSAGE: "the frame is not a message of this protocol",
    ErrorCode.UNKNOWN_TYPE: "a type, or a binary kind, that this version does not know",
    ErrorCode.TOO_LARGE: "a frame over its cap",
    ErrorCode.OUT_OF_ORDER: "a message that is not allowed in this phase",
    ErrorCode.UNSUPPORTED_VERSION: "the relay does not speak the version in `hello`",
    ErrorCode.UTTERANCE_TOO_LONG: "the utterance went on past `max_utterance_s`",
    ErrorCode.PAUSED: "a parent has paused the toy",
    ErrorCode.QUIET_HOURS: "the toy rests until its quiet hours are over",
    ErrorCode.DAILY_LIMIT: "today's time with the toy is used up",
    ErrorCode.CONVERSATION_LIMIT: "the toy and the child have talked long enough for now",
    ErrorCode.TIMEOUT: "an engine did not answer in time",
    ErrorCode.UNAVAILABLE: "an engine cannot be used now",
    ErrorCode.BAD_AUDIO: "the audio is not Opus",
    ErrorCode.INTERNAL: "a fault of the relay",
    ErrorCode.SHUTTING_DOWN: "the relay stops; come back later",
    ErrorCode.REPLACED: "another connection has shown the same token; of a command: a newer one took its place",
    ErrorCode.REVOKED: "the token is no longer valid",
    ErrorCode.REST_OVER: "the toy may talk again, or local time has changed; come back at once for a new `welcome`",
}


def order_table() -> str:
    """The transitions of `ALLOWED`, a row each."""
    rows = ["| phase | who | message | next phase |", "|---|---|---|---|"]
    for phase in Phase:
        for (side, message), after in ALLOWED[phase].items():
            rows.append(f"| {phase} | {side} | {wire_name(message)} | {after} |")
    welcomed = ", ".join(phase for phase in Phase if phase in WELCOMED)
    for side, messages in ASIDE.items():
        names = ", ".join(sorted(wire_name(message) for message in messages))
        rows.append(f"| {welcomed} | {side} | {names} | the same |")
    return "\n".join(rows)


def wire_name(message: type) -> str:
    """A message as the page names it."""
    return {AudioFrame: "`audio`", PhraseChunk: "`phrase`"}.get(message, f"`{type_name(message)}`")


def code_table() -> str:
    """Every error code and its meaning."""
    return "\n".join(["| code | meaning |", "|---|---|", *(f"| `{code}` | {MEANINGS[code]} |" for code in ErrorCode)])


def generated(page: str) -> str:
    """The page with its generated parts made anew."""
    for name, table in (("order", order_table()), ("codes", code_table())):
        begin, end = f"<!-- begin generated: {name} -->", f"<!-- end generated: {name} -->"
        page = re.sub(f"{begin}.*?{end}", lambda _, b=begin, t=table, e=end: f"{b}\n{t}\n{e}", page, flags=re.DOTALL)
    return page


def test_the_generated_parts_are_up_to_date() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == generated(page), "run: python -m tests.protocol.test_docs"
    assert order_table() in page
    assert code_table() in page


def test_every_message_and_every_field_is_in_the_table() -> None:
    rows = {
        match[1]: match[0]
        for match in re.finditer(r"^\| `(\w+)` \| (?:toy|relay) \|.*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert rows.keys() == CONTROL.keys()
    for name, message_class in CONTROL.items():
        for field in dataclasses.fields(message_class):
            assert f"`{field.name}`" in rows[name]


if __name__ == "__main__":
    PAGE.write_text(generated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

"""Every state with every event, as a golden file for the tests and as docs/states.md for people.

`python -m tests.unit.device.state_table` writes both anew; look at the difference before you commit it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from pommai.device.mind.effects import Effect
from pommai.device.mind.events import (
    Connected,
    Disconnected,
    Event,
    Held,
    HeldForRestart,
    HeldLong,
    Occasion,
    PlaybackFinished,
    PlayRequested,
    Pressed,
    Released,
    RestBegan,
    RestEnded,
    SoundFailed,
    SpeakingStarted,
    Started,
    StopRequested,
    Tapped,
    TimeLimitReached,
    TurnFailed,
)
from pommai.device.mind.machine import step
from pommai.device.mind.states import (
    LIMIT_S,
    RESTS,
    SIGNS,
    Booting,
    Connecting,
    Error,
    Fault,
    Holding,
    Idle,
    Interrupted,
    Listening,
    Offline,
    Paused,
    Playing,
    Speaking,
    State,
    Stopping,
    Thinking,
)
from pommai.limits import Rest
from pommai.protocol import ErrorCode

GOLDEN = Path(__file__).parent / "golden" / "states.txt"
DOCUMENT = Path(__file__).parents[3] / "docs" / "states.md"

TURN = 7

STATES: tuple[State, ...] = (
    Booting(TURN),
    Connecting(TURN),
    Idle(TURN),
    Listening(TURN, started=False),
    Listening(TURN, started=True),
    Thinking(TURN),
    Speaking(TURN),
    Interrupted(TURN, began=False),
    Interrupted(TURN, began=True),
    Interrupted(TURN, began=True, signs=SIGNS),
    Offline(TURN),
    Holding(TURN, Connecting(TURN - 1)),
    Holding(TURN, Offline(TURN - 1)),
    Holding(TURN, Idle(TURN - 1)),
    Paused(TURN, ErrorCode.QUIET_HOURS, Idle(TURN)),
    Playing(TURN, Idle(TURN - 1)),
    Playing(TURN, Offline(TURN - 1)),
    Playing(TURN, Paused(TURN - 1, ErrorCode.PAUSED, Idle(TURN - 1))),
    Playing(TURN, Stopping(TURN - 1, restart=True)),
    Playing(TURN, Idle(TURN - 1), is_help=True),
    Playing(TURN, Offline(TURN - 1), is_help=True),
    Playing(TURN, Paused(TURN - 1, ErrorCode.PAUSED, Idle(TURN - 1)), is_help=True),
    Error(TURN, ErrorCode.UNAVAILABLE, Idle(TURN)),
    Error(TURN, Fault.SOUND, Offline(TURN)),
    Stopping(TURN, restart=False),
)

EVENTS: tuple[Event, ...] = (
    Started(),
    Connected(),
    Connected(ErrorCode.PAUSED),
    Connected(resumed=TURN),
    Connected(resumed=TURN - 1),
    Disconnected(),
    Disconnected(complete=True),
    Disconnected(silent_long=True),
    RestBegan(Rest.PAUSED),
    RestEnded(),
    Pressed(),
    Pressed(Rest.PAUSED),
    Held(),
    HeldLong(),
    HeldLong(answered=True),
    HeldForRestart(),
    HeldForRestart(silent=True),
    Released(),
    Released(long=True),
    Tapped(1),
    Tapped(2),
    Tapped(3),
    SpeakingStarted(TURN),
    SpeakingStarted(TURN - 1),
    PlaybackFinished(TURN),
    PlaybackFinished(TURN, called=True),
    PlaybackFinished(TURN - 1),
    TurnFailed(TURN, ErrorCode.INTERNAL),
    TurnFailed(TURN, ErrorCode.DAILY_LIMIT),
    TurnFailed(TURN - 1, ErrorCode.INTERNAL),
    SoundFailed(),
    TimeLimitReached(),
    PlayRequested(Occasion.PHRASE, "song-1"),
    StopRequested(),
    StopRequested(restart=True),
)


def show(value: Any) -> str:
    """A state, an event or an effect in one line; what is empty is left out."""
    given = ((f.name, getattr(value, f.name)) for f in fields(value))
    inner = ", ".join(f"{name}={shown(inner)}" for name, inner in given if inner != "")
    return f"{type(value).__name__}({inner})"


def shown(value: Any) -> str:
    """A value in a line; a state beneath another one as a line of its own."""
    return show(value) if is_dataclass(value) else str(value)


def show_all(effects: list[Effect]) -> str:
    """Effects in the order in which they are performed."""
    return ", ".join(show(effect) for effect in effects)


def golden() -> str:
    """Every pair, a state a block; `.` where nothing happens."""
    blocks = []
    for state in STATES:
        lines = [show(state)]
        for event in EVENTS:
            after, effects = step(state, event)
            happens = " | ".join(filter(None, (show(after) if after != state else "", show_all(effects))))
            lines.append(f"    {show(event):<46} {happens or '.'}")
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def changes() -> Iterator[tuple[State, Event, State, list[Effect]]]:
    """The pairs in which something happens."""
    for state in STATES:
        for event in EVENTS:
            after, effects = step(state, event)
            if after != state or effects:
                yield state, event, after, effects


def short(value: Any) -> str:
    """As `show`, without the turn and without what is None."""
    given = {f.name: getattr(value, f.name) for f in fields(value)}
    shown_ones = {name: inner for name, inner in given.items() if name != "turn" and inner not in (None, False, "")}
    inner = ", ".join(f"{name}={short(inner) if is_dataclass(inner) else inner}" for name, inner in shown_ones.items())
    return f"{type(value).__name__}({inner})" if inner else type(value).__name__


def label(event: Event) -> str:
    """An event at an arrow of the diagram, where all failures are one."""
    rests = any(getattr(event, f.name) in RESTS for f in fields(event))
    return type(event).__name__ + (" (to rest)" if rests else "")


def diagram() -> str:
    """The states and the ways between them, for Mermaid."""
    ways: dict[tuple[str, str], list[str]] = {}
    for state, event, after, _ in changes():
        labels = ways.setdefault((type(state).__name__, type(after).__name__), [])
        if label(event) not in labels:
            labels.append(label(event))
    lines = [f"    {start} --> {end}: {', '.join(labels)}" for (start, end), labels in ways.items()]
    return "\n".join(["stateDiagram-v2", "    [*] --> Booting", *lines])


def table() -> str:
    """What happens, a pair a row; the turn before is n."""
    rows = ["| in | when | then | and does |", "|---|---|---|---|"]
    for state, event, after, effects in changes():
        cells = short(state), short(event), short(after), show_all(effects)
        rows.append("| " + " | ".join(f"`{cell}`" if cell else "" for cell in cells) + " |")
    text = "\n".join(rows)
    return text.replace(f"turn={TURN + 1}", "n + 1").replace(f"turn={TURN}", "n")


def document() -> str:
    """docs/states.md."""
    limits = "\n".join(f"| `{state.__name__}` | {limit_s:g} s |" for state, limit_s in LIMIT_S.items())
    return f"""# The states of the toy

Made from `pommai/device/mind/machine.py` and `conversing.py` by `python -m tests.unit.device.state_table`; a test
compares them. What each state means stands in `states.py`; what each looks like, in `pommai/device/mind/lights.py`.

```mermaid
{diagram()}
```

## How long a state may last

Counted from when a state of this type was entered; then `TimeLimitReached` happens. `Interrupted` first gives {SIGNS}
signs that the toy still waits, each of which begins the limit anew. The others may last for ever.

| state | limit |
|---|---|
{limits}

## What happens

The turn in progress is n. What is not listed changes nothing and does nothing: among it, everything that comes late
from an older turn.

{table()}
"""


def main() -> None:
    """Write both files anew."""
    GOLDEN.write_text(golden(), encoding="utf-8")
    DOCUMENT.write_text(document(), encoding="utf-8")


if __name__ == "__main__":
    main()

"""What the commands of `pommai device` do: ask the daemon at its control socket, and show what it says."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from pommai.cli import output
from pommai.device.settings import ControlSettings
from pommai.errors import ConnectError, ProtocolError, RefusedError

DEFAULT_SOCKET: Final = Path(ControlSettings().socket)
PATIENCE_S: Final = 6.0
"""For an answer; a memory card may keep the daemon waiting for seconds."""

PRESS_S: Final = 75.0
"""For the answer to a press, which lasts as long as it is held: up to a minute."""

MAX_ANSWER_BYTES: Final = 4_000_000


def ask(path: Path, do: str, /, **request: Any) -> dict[str, Any]:
    """The daemon's answer. Raises ConnectError without one, RefusedError if it refuses."""
    line = json.dumps({"do": do, **request}).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(PRESS_S if do == "press" else PATIENCE_S)
            client.connect(str(path))
            client.sendall(line)
            with client.makefile("rb") as answers:
                answered = answers.readline(MAX_ANSWER_BYTES)
    except PermissionError as error:
        raise ConnectError(f"you may not use {path}", remedy=_JOIN_THE_GROUP) from error
    except TimeoutError as error:
        raise ConnectError(f"the toy daemon at {path} does not answer", remedy=_RESTART_IT) from error
    except OSError as error:  # none there, a dead one's, a path too long
        if path.exists() and not path.is_socket():
            raise ConnectError(f"{path} is no socket", remedy=_NAME_IT) from error
        raise ConnectError(f"no toy daemon listens at {path}", remedy=_START_IT) from error
    return _checked(answered, path)


_NAME_IT: Final = f"Name the daemon's socket with --socket; without it, that is {DEFAULT_SOCKET}."
_START_IT: Final = "Start it: `sudo systemctl start pommai`; or name its socket with --socket."
_RESTART_IT: Final = "Restart it: `sudo systemctl restart pommai`; its log may say why: `journalctl -u pommai`."
_JOIN_THE_GROUP: Final = "Use sudo, or join the group pommai: `sudo usermod -aG pommai $USER`, then log in again."


def _checked(answered: bytes, path: Path) -> dict[str, Any]:
    """What the daemon said. An empty line: it ended while it was asked."""
    if not answered:
        raise ConnectError(f"the toy daemon at {path} ended while it was asked", remedy=_START_IT)
    try:
        answer = json.loads(answered)
        if answer["ok"]:
            del answer["ok"]
            return dict(answer)
        error = RefusedError(str(answer["error"]), remedy=str(answer["remedy"]))
    except (ValueError, KeyError, TypeError) as caught:
        raise ProtocolError(f"what listens at {path} is no toy daemon") from caught
    raise error


Done = Callable[[Mapping[str, Any]], str]
"""Says what was done, from the daemon's answer."""


def show(path: Path, do: str, /, *, as_json: bool, done: str | Done = "", **request: Any) -> None:
    """Ask for something to be done; for people, say that it was: `done`, filled with what the daemon answered."""
    answer = ask(path, do, **request)
    if as_json:
        output.emit(answer)
    elif done:
        output.notice(done.format(**answer) if isinstance(done, str) else done(answer))
        if answer.get("kept") is False:
            output.notice("[yellow]Only until it is switched off[/]: it has no disk to keep it on (see `status`).")


def heard(path: Path, wav: Path, *, as_json: bool) -> None:
    """Have the daemon save what its speaker played."""
    show(path, "heard", as_json=as_json, done="{heard_ms:.0f} ms are in {path}.", path=str(wav))


def resume(path: Path, *, as_json: bool) -> None:
    """End the pause of the toy's own."""
    show(path, "resume", as_json=as_json, done=_resumed)


def _resumed(answer: Mapping[str, Any]) -> str:
    rest = answer["rest"]
    return "The pause is over." if rest is None else f"The pause here is over; the toy still rests: {_RESTS[rest]}."


_RESTS: Final = {
    "paused": "its parents' own pause holds, in the relay's limits",
    "quiet_hours": "these are its quiet hours, in the relay's limits",
    "daily_limit": "its time of talk for this day is used up, in the relay's limits",
    "conversation_limit": "the last conversation was long, and it takes a break",
}
"""What the toy's other limits mean for people, by the values of `limits.Rest`."""


def test_lights(path: Path, *, as_json: bool) -> None:
    """Have the toy show each colour."""
    show(path, "test", as_json=as_json, done=_lit, what="led")


def _lit(answer: Mapping[str, Any]) -> str:
    where = "look at `lights` of `pommai device status --json`" if answer["virtual"] else "look at the toy"
    missing = f"\n[yellow]Not all of them[/]: {output.plain(answer['problem'])}." if answer["problem"] else ""
    return f"Red, green, blue, white, twice: {where}.{missing}"


def press(path: Path, request: Mapping[str, Any], *, as_json: bool) -> None:
    """Press a virtual button."""
    show(path, "press", as_json=as_json, done=_pressed, **request)


def _pressed(answer: Mapping[str, Any]) -> str:
    held = f"Pressed for {answer['held_ms']:.0f} ms"
    if answer["opened"]:
        return f"{held}: turn {answer['turn']}."
    why = _RESTS_NOW if answer["paused_here"] else _RESTS.get(answer["rest"], f"the toy is {answer['state']}")
    return f"{held}; [yellow]the microphone stayed closed[/]: {why}."


_RESTS_NOW: Final = "it rests until `pommai device resume`"


def status(path: Path, *, as_json: bool) -> None:
    """Show how the toy is."""
    answer = ask(path, "status")
    if as_json:
        output.emit(answer)
    else:
        output.facts(_facts(answer))


def phrases(path: Path, *, as_json: bool) -> None:
    """List the phrases that the toy knows."""
    known = ask(path, "phrases")["phrases"]
    if as_json:
        for phrase in known:
            output.emit(phrase)
    else:
        rows = [[phrase["id"], "recorded" if phrase["audio"] else "text only"] for phrase in known]
        output.table(["phrase", "voice"], rows, whole=("phrase",))


def _facts(answer: dict[str, Any]) -> list[tuple[str, str]]:
    """The status for people: a name and a line for each thing worth knowing."""
    relay, cache, sound, battery = answer["relay"], answer["cache"], answer["sound"], answer["battery"]
    why = f" ({answer['why']})" if answer["why"] else ""
    facts = [
        ("state", f"{answer['state']}{why}, for {_lasted(answer['since_s'])}"),
        ("relay", f"reached at {relay['url']}" if relay["reached"] else f"not reached: {relay['why_not']}"),
        ("volume", f"{answer['volume']:.0%}, of at most {answer['ceiling']:.0%}"),
        ("rest", answer["rest"] or "no reason to rest"),
        ("talk today", _lasted(answer["used_today_s"])),
        ("battery", answer["battery_problem"] or _charge(battery)),
        ("sound", f"{'there' if sound['present'] else 'no sound card'}, {sound['xruns']} xruns"),
        ("lights", answer["lights"]["problem"] or "in order"),
        ("cache", cache["problem"] or "in order"),
        ("events", f"{cache['unsent']} to be sent, {cache['urgent']} of them urgent"),
        ("phrases", f"{cache['phrases']} recorded{', more on their way' if cache['syncing'] else ''}"),
        ("clock", "trusted" if answer["clock_trusted"] else "not set yet: limits of time hold as they were"),
        ("memory", "unknown" if answer["memory_mb"] is None else f"{answer['memory_mb']} MB"),
        ("running", f"pommai {answer['version']} for {_lasted(answer['uptime_s'])}"),
    ]
    if (turn := answer["last_turn"]) is not None:
        audio = f", first sound after {turn['first_audio_ms']} ms" if "first_audio_ms" in turn else ""
        facts.append(("last turn", f"number {turn['turn']}: {turn['outcome']}{audio}"))
    return facts


def _charge(battery: dict[str, Any] | None) -> str:
    if battery is None:
        return "none"
    return f"{battery['percent']} %{', charging' if battery['charging'] else ''}"


def _lasted(seconds: float) -> str:
    """A length of time for people."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"

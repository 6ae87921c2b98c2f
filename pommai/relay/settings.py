"""The relay's settings: `relay.toml`, and `POMMAI_*` in the environment."""

from __future__ import annotations

from dataclasses import dataclass, field

from pommai.schema import setting


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where the relay listens."""

    host: str = setting("127.0.0.1", help="address to listen on")
    port: int = setting(8787, minimum=0, maximum=65535, help="port to listen on; 0 takes a free one")
    tls_cert: str = setting("", help="PEM file with the certificate chain")
    tls_key: str = setting("", help="PEM file with the private key")
    insecure: bool = setting(False, help="allow plain ws:// on an address other machines can reach")
    max_toys: int = setting(100, minimum=1, maximum=10_000, help="connections served at once")


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """Which engine serves each stage, and how long a turn may take."""

    stt: str = setting("local", choices=("local", "scripted"), help="speech to text")
    moderator: str = setting("local", choices=("local", "scripted"), help="judge of what is heard and said")
    llm: str = setting("local", choices=("local", "scripted"), help="language model")
    tts: str = setting("local", choices=("local", "scripted"), help="text to speech")
    phrases: bool = setting(True, help="speak the phrases that toys keep for times without a network")
    max_utterance_s: float = setting(20.0, minimum=1.0, maximum=20.0, help="longest utterance; more is cut")
    turn_budget_s: float = setting(20.0, minimum=1.0, maximum=20.0, help="time for a turn until its first audio")


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where turns are kept, and for how long."""

    path: str = setting("/var/lib/pommai/relay.db", help="SQLite file; made with mode 0600")
    keep_words_days: int = setting(0, minimum=0, maximum=365, help="days to keep the words of a turn; 0 keeps none")
    keep_turns_days: int = setting(30, minimum=1, maximum=3650, help="days to keep a turn's times and verdicts")


@dataclass(frozen=True, slots=True)
class ToySettings:
    """`[toys.ID]`: what the parents of one toy allow."""

    paused: bool = setting(False, help="the toy rests until this is false again")
    quiet_from: str = setting("", help='start of the quiet hours, local time, as "19:30"')
    quiet_until: str = setting("", help='end of the quiet hours, local time, as "07:00"')
    daily_limit_min: int = setting(0, minimum=0, maximum=1440, help="minutes of talk a day; 0 for no limit")
    max_conversation_min: int = setting(
        0, minimum=0, maximum=240, help="minutes of one conversation, then the toy needs a break; 0 for no limit"
    )
    volume_ceiling: float = setting(1.0, minimum=0.0, maximum=1.0, help="loudest volume, 0.0 to 1.0")


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """Everything a relay can be told by its owner."""

    server: ServerSettings = field(default_factory=ServerSettings)
    pipeline: PipelineSettings = field(default_factory=PipelineSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    toys: dict[str, ToySettings] = field(default_factory=dict)

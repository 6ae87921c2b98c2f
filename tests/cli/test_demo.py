"""`pommai demo` as its user runs it: what it prints, and what bad input gets."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import wave
from pathlib import Path

import pytest

from pommai.audio import SPEECH, read_recording, write_wav
from pommai.relay.providers.local_tts import LocalTTS
from tests.cli.running import run
from tests.e2e.conftest import child_says
from tests.unit.test_audio import sine

KEYS = [
    *("turn", "heard", "said", "source", "tokens", "verdicts", "ms"),
    *("uplink_kbps", "downlink_kbps", "compression", "reply_s", "wav"),
]
STAGES = ["stt", "judge_in", "llm_first_token", "first_sentence", "first_audio"]
SUMMARY = ["p50", "p95", "p50_model", "p50_bank", "ready_s", "peak_rss_mb"]


def demo(tmp_path: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run `pommai demo` with its replies in `tmp_path`, and no standard input."""
    return run("demo", "--out", str(tmp_path / "out"), *args)


@pytest.mark.engines
def test_json_is_a_line_a_turn_and_a_summary_and_nothing_else(tmp_path: Path) -> None:
    result = demo(tmp_path, "--turns", "2", "--json")
    assert result.returncode == 0, result.stderr
    *turns, summary = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(turns) == 2
    for number, turn in enumerate(turns, 1):
        assert list(turn) == KEYS
        assert turn["turn"] == number
        assert turn["source"] in ("bank", "model")
        assert list(turn["ms"]) == STAGES
        reached = [turn["ms"][stage] for stage in STAGES]
        assert 0 < reached[0] < reached[1] < reached[2] < reached[3] < reached[4]
        assert turn["uplink_kbps"] <= 38.4
        assert turn["downlink_kbps"] < 50
        assert turn["compression"] >= 10
        assert {v["layer"] for v in turn["verdicts"]} == {"input", "output"}
        assert all(v["action"] == "pass" for v in turn["verdicts"])
        reply = read_recording(Path(turn["wav"])).pcm
        assert SPEECH.ms(len(reply)) / 1000 == pytest.approx(turn["reply_s"], abs=0.01)
    assert list(summary) == SUMMARY
    assert summary["p50"] > 0
    assert (tmp_path / "out" / "relay.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.engines
def test_people_get_a_transcript_and_a_waterfall(tmp_path: Path) -> None:
    result = demo(tmp_path, "--say", "Hello teddy!")
    assert result.returncode == 0, result.stderr
    for expected in (
        "demo brain",
        "Turn 1 of 1",
        "heard (speech to text)",
        "first reply audio",
        "kbit/s",
        "turn-01.wav",
    ):
        assert expected in result.stdout


@pytest.mark.engines
def test_any_recording_that_can_be_heard_is_understood(tmp_path: Path) -> None:
    """48 kHz stereo is resampled; silence gets a gentle answer; ten minutes are cut at the limit with a clear word."""
    tts = LocalTTS.load()
    try:
        speech = asyncio.run(child_says(tts, "What sound does a cow make?"))
    finally:
        tts.close()
    stereo = tmp_path / "stereo.wav"
    samples = memoryview(speech).cast("h")
    with wave.open(str(stereo), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(48_000)
        file.writeframes(b"".join(sample.to_bytes(2, "little", signed=True) * 4 for sample in samples))
    silence, endless = tmp_path / "silence.wav", tmp_path / "endless.wav"
    write_wav(silence, bytes(SPEECH.bytes(1_000)))
    write_wav(endless, sine(440, 1.0, peak=0.01) * 600)
    result = demo(tmp_path, "--wav", str(stereo), "--wav", str(silence), "--wav", str(endless), "--json")
    assert result.returncode == 0, result.stderr
    heard, unheard, cut = [json.loads(line) for line in result.stdout.splitlines()][:3]
    assert "cow" in heard["heard"].lower()
    assert (unheard["heard"], unheard["source"]) == ("", "fixed")
    assert "hear" in unheard["said"].lower()
    assert cut["heard"] == ""
    assert "600 s is longer than a toy listens" in result.stderr


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("text.wav", b"this is not a recording", "is not a WAV file"),
        ("empty.wav", b"", "is not a WAV file"),
        ("none.wav", None, "there is no such file"),
    ],
)
def test_a_file_that_is_no_recording_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes | None, told: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = demo(tmp_path, "--wav", str(tmp_path / name), "--json")
    assert result.returncode == 65
    assert result.stdout == ""
    error, remedy = result.stderr.splitlines()
    assert name in error
    assert told in error
    assert remedy.startswith("what to do:")


def test_without_a_sound_card_mic_is_refused_before_anything_is_loaded(tmp_path: Path, no_card: None) -> None:
    result = demo(tmp_path, "--mic")
    assert result.returncode == 71
    error, remedy = result.stderr.splitlines()
    assert error == "error: there is no microphone"
    assert "pommai demo" in remedy


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    result = demo(tmp_path, "--out", str(tmp_path / "file" / "out"))
    error, remedy = result.stderr.splitlines()
    assert result.returncode == 74
    assert "cannot be made: Not a directory" in error
    assert "--out" in remedy and "[store]" not in remedy


def test_a_folder_that_takes_no_database_is_refused_with_the_same_remedy(tmp_path: Path) -> None:
    (tmp_path / "out" / "relay.db").mkdir(parents=True)
    result = demo(tmp_path)
    error, remedy = result.stderr.splitlines()
    assert result.returncode == 74
    assert "relay.db" in error
    assert "--out" in remedy and "[store]" not in remedy


@pytest.mark.engines
@pytest.mark.parametrize("text", ["", "...", "\U0001f98a", "\u3053\u3093\u306b\u3061\u306f"])
def test_a_text_that_no_voice_can_speak_is_refused_before_anything_is_said(tmp_path: Path, text: str) -> None:
    result = demo(tmp_path, "--say", "Hello there!", "--say", text, "--json")
    assert result.returncode == 65
    assert not result.stdout
    error, remedy = result.stderr.splitlines()
    assert "nothing to pronounce" in error
    assert "--wav" in remedy


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    result = demo(tmp_path, "--wav", str(tmp_path / "pipe.wav"))
    assert result.returncode == 65
    assert "pipe.wav is a pipe or a device" in result.stderr


@pytest.mark.parametrize("turns", ["0", "1001", "two"])
def test_a_number_of_turns_that_makes_no_sense_is_a_usage_error(tmp_path: Path, turns: str) -> None:
    result = demo(tmp_path, "--turns", turns)
    assert result.returncode == 2
    assert "--turns" in result.stderr


def test_contradicting_options_are_a_usage_error(tmp_path: Path) -> None:
    result = demo(tmp_path, "--mic", "--say", "hello")
    assert result.returncode == 2
    assert "leave out" in result.stderr

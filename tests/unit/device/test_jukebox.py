"""The choice of phrases: in turns, remembered, and in the toy's own voice where there is one."""

from __future__ import annotations

import json
from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pommai import starter
from pommai.device.mind.events import Occasion
from pommai.device.mind.jukebox import CYCLE, Jukebox, Status
from pommai.starter import Phrase, PhraseKind

WELL = Status(online=True, battery_percent=50, charging=False, volume=0.5)


def pack(**counts: int) -> tuple[Phrase, ...]:
    """So many phrases of each kind: `greeting-1`, `greeting-2` and so on."""
    return tuple(
        Phrase(f"{name}-{number}", PhraseKind(name), f"The {name} number {number}.")
        for name, count in counts.items()
        for number in range(1, count + 1)
    )


def ids(phrases: tuple[Phrase, ...]) -> list[str]:
    return [phrase.id for phrase in phrases]


def activities(jukebox: Jukebox, count: int, available: Collection[str] = ()) -> list[str]:
    """The first phrase of each of so many activities."""
    return [jukebox.choose(Occasion.ACTIVITY, available=available)[0].id for _ in range(count)]


def test_activities_go_round_and_through_their_variants() -> None:
    jukebox = Jukebox(pack(greeting=2, song=1, joke=3, story=2, goodnight=1))
    assert activities(jukebox, 15) == [
        *("greeting-1", "song-1", "joke-1", "story-1", "goodnight-1"),
        *("greeting-2", "song-1", "joke-2", "story-2", "goodnight-1"),
        *("greeting-1", "song-1", "joke-3", "story-1", "goodnight-1"),
    ]


def test_a_greeting_brings_a_kind_word_and_nothing_else_does() -> None:
    jukebox = Jukebox(pack(greeting=1, song=1, affection=2))
    said = [ids(jukebox.choose(Occasion.ACTIVITY)) for _ in range(4)]
    assert said == [["greeting-1", "affection-1"], ["song-1"], ["greeting-1", "affection-2"], ["song-1"]]


@pytest.mark.parametrize(
    ("available", "said"),
    [
        ({"greeting-1", "affection-2"}, ["greeting-1", "affection-2"]),
        ({"greeting-1"}, ["greeting-1"]),
        ({"affection-1"}, ["greeting-1"]),
        ({}, ["greeting-1", "affection-1"]),
    ],
)
def test_no_turn_is_spoken_in_two_voices(available: Collection[str], said: list[str]) -> None:
    jukebox = Jukebox(pack(greeting=1, affection=2))
    assert ids(jukebox.choose(Occasion.ACTIVITY, available=available)) == said


def test_a_kind_word_that_was_left_out_keeps_its_turn() -> None:
    jukebox = Jukebox(pack(greeting=1, affection=2))
    jukebox.choose(Occasion.ACTIVITY, available={"greeting-1"})
    assert ids(jukebox.choose(Occasion.ACTIVITY)) == ["greeting-1", "affection-1"]


def test_activities_that_the_pack_does_not_have_are_passed_over() -> None:
    assert activities(Jukebox(pack(song=1, goodnight=1)), 3) == ["song-1", "goodnight-1", "song-1"]


@pytest.mark.parametrize("occasion", [occasion for occasion in Occasion if occasion is not Occasion.STATUS])
def test_an_empty_pack_has_nothing_to_say(occasion: Occasion) -> None:
    assert Jukebox(()).choose(occasion) == ()
    assert Jukebox(()).choose(Occasion.STATUS, WELL) == ()


def test_what_has_audio_goes_first_and_what_has_none_is_used_only_if_all_have_none() -> None:
    jukebox = Jukebox(pack(joke=3))
    heard = {"joke-2", "joke-3", "song-1"}
    assert activities(jukebox, 4, heard) == ["joke-2", "joke-3", "joke-2", "joke-3"]
    assert activities(jukebox, 3, {"song-1"}) == ["joke-1", "joke-2", "joke-3"]


def test_audio_that_comes_later_joins_in_before_anything_is_heard_again() -> None:
    jukebox = Jukebox(pack(joke=3))
    assert activities(jukebox, 2, {"joke-2"}) == ["joke-2", "joke-2"]
    assert activities(jukebox, 4, {"joke-1", "joke-2", "joke-3"}) == ["joke-1", "joke-3", "joke-2", "joke-1"]


@pytest.mark.parametrize(
    ("occasion", "kind"),
    [
        (Occasion.UNREACHABLE, "unreachable"),
        (Occasion.HELP, "help"),
        (Occasion.LOST_THREAD, "lost_thread"),
        (Occasion.RESTING, "resting"),
        (Occasion.BEDTIME, "goodnight_rest"),
        (Occasion.NOTHING_TO_REPEAT, "nothing_to_repeat"),
        (Occasion.REPEAT, "nothing_to_repeat"),
        (Occasion.LOW_BATTERY, "low_battery"),
        (Occasion.RESTARTING, "restarting"),
    ],
)
def test_each_occasion_has_its_own_phrases_that_take_turns(occasion: Occasion, kind: str) -> None:
    jukebox = Jukebox(pack(**{kind.value: 2 for kind in PhraseKind}))
    said = [ids(jukebox.choose(occasion)) for _ in range(3)]
    assert said == [[f"{kind}-1"], [f"{kind}-2"], [f"{kind}-1"]]


def test_a_phrase_that_is_wanted_by_its_id_is_said_and_takes_its_turn() -> None:
    jukebox = Jukebox(pack(song=2, joke=2))
    assert ids(jukebox.choose(Occasion.PHRASE, phrase="song-1")) == ["song-1"]
    assert activities(jukebox, 3) == ["song-2", "joke-1", "song-1"]
    assert ids(jukebox.choose(Occasion.PHRASE, phrase="joke-2", available={"joke-1"})) == ["joke-2"]


@pytest.mark.parametrize("phrase", ["", "song-9", "song", "../song-1"])
def test_a_phrase_that_the_pack_does_not_have_is_not_said(phrase: str) -> None:
    jukebox = Jukebox(pack(song=1))
    assert jukebox.choose(Occasion.PHRASE, phrase=phrase) == ()
    assert jukebox.position == Jukebox(pack(song=1)).position


def test_every_occasion_has_something_to_say() -> None:
    for occasion in Occasion:
        assert Jukebox(starter.load()).choose(occasion, WELL, phrase="story-1"), occasion


def test_other_occasions_do_not_move_the_cycle() -> None:
    jukebox = Jukebox(starter.load())
    activities(jukebox, 2)
    for occasion in list(Occasion)[1:]:
        jukebox.choose(occasion, WELL)
    assert activities(jukebox, 1) == ["joke-1"]


@pytest.mark.parametrize(
    ("status", "kinds"),
    [
        (WELL, ["online", "battery_good", "volume_medium"]),
        (Status(False, None, False, 1.0), ["offline", "volume_loud"]),
        (Status(True, None, True, 0.0), ["online", "battery_charging", "volume_quiet"]),
        (Status(True, 5, True, 0.33), ["online", "battery_charging", "volume_quiet"]),
        (Status(True, 100, False, 0.34), ["online", "battery_full", "volume_medium"]),
        (Status(True, 90, False, 0.66), ["online", "battery_full", "volume_medium"]),
        (Status(True, 89, False, 0.67), ["online", "battery_good", "volume_loud"]),
        (Status(True, 25, False, 0.5), ["online", "battery_good", "volume_medium"]),
        (Status(True, 24, False, 0.5), ["online", "battery_low", "volume_medium"]),
        (Status(True, 0, False, 0.5), ["online", "battery_low", "volume_medium"]),
    ],
)
def test_the_status_tells_connection_battery_and_volume(status: Status, kinds: list[str]) -> None:
    said = Jukebox(starter.load()).choose(Occasion.STATUS, status)
    assert [phrase.kind.value for phrase in said] == kinds


def test_the_status_tells_what_the_pack_can_tell() -> None:
    assert ids(Jukebox(pack(volume_medium=1)).choose(Occasion.STATUS, WELL)) == ["volume_medium-1"]


def test_a_status_that_was_not_given_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="status"):
        Jukebox(starter.load()).choose(Occasion.STATUS)


@given(st.lists(st.sampled_from([Occasion.ACTIVITY, Occasion.HELP]), max_size=60), st.integers(0, 60))
def test_a_restart_anywhere_changes_nothing(occasions: list[Occasion], restart: int) -> None:
    through, stopped = Jukebox(starter.load()), Jukebox(starter.load())
    for number, occasion in enumerate(occasions):
        if number == restart:
            stopped = Jukebox(starter.load(), json.loads(json.dumps(stopped.position)))
        assert stopped.choose(occasion) == through.choose(occasion)


def test_the_whole_pack_is_heard_before_anything_is_heard_again() -> None:
    jukebox = Jukebox(starter.load())
    for kind in CYCLE:
        variants = [phrase.id for phrase in starter.load() if phrase.kind is kind]
        rounds = activities(jukebox, len(CYCLE) * len(variants))
        of_kind = [id for id in rounds if id.startswith(f"{kind.value}-")]
        assert sorted(of_kind) == sorted(variants)


@pytest.mark.parametrize(
    "position",
    [
        {},
        {"next": "lullaby", "said": "joke-1"},
        {"next": 3, "said": ["tale-1", 7, None, ["joke-1"]]},
        {"next": ["song"], "said": {"joke-1": 1}},
        {"next": None, "said": None, "more": 1},
    ],
)
def test_a_position_that_makes_no_sense_is_a_new_beginning(position: dict[str, object]) -> None:
    assert Jukebox(starter.load(), position).position == Jukebox(starter.load()).position


def test_of_a_position_from_another_pack_the_rest_is_kept() -> None:
    jukebox = Jukebox(pack(joke=2, song=1), {"next": "joke", "said": ["joke-1", "joke-9"]})
    assert activities(jukebox, 2) == ["joke-2", "song-1"]


def test_the_position_stays_as_small_as_the_pack() -> None:
    jukebox = Jukebox(starter.load())
    activities(jukebox, 500)
    assert len(json.dumps(jukebox.position)) < 2000

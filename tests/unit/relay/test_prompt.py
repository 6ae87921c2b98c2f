"""The prompt: safe, bounded, and beginning like the one before it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pommai.relay.ports import Role
from pommai.relay.prompt import (
    MAX_EXCHANGE_CHARS,
    MAX_EXCHANGES,
    PREFIX,
    Exchange,
    History,
    messages,
    recent,
    remember,
)


def history_of(n: int) -> History:
    history: History = ()
    for i in range(n):
        history = remember(history, Exchange(f"heard {i}", f"said {i}"))
    return history


def test_a_first_turn_is_the_prefix_and_what_was_heard() -> None:
    assert messages((), "hello") == [*PREFIX, messages((), "hello")[-1]]
    assert messages((), "hello")[-1].role is Role.USER
    assert messages((), "hello")[-1].content == "hello"
    assert [m.role for m in PREFIX[:3]] == [Role.SYSTEM, Role.USER, Role.ASSISTANT]


def test_the_history_comes_between_and_alternates() -> None:
    prompt = messages(history_of(2), "and now?")
    assert [m.content for m in prompt[len(PREFIX) :]] == ["heard 0", "said 0", "heard 1", "said 1", "and now?"]
    roles = [m.role for m in prompt[1:]]
    assert roles == [Role.USER, Role.ASSISTANT] * (len(roles) // 2) + [Role.USER]


def test_the_model_never_sees_what_did_not_pass_or_had_no_answer_but_the_judge_does() -> None:
    history = (Exchange("bad", "let us sing", passed=False), Exchange("cut off", ""), Exchange("nice", "yes"))
    assert [m.content for m in messages(history, "x")[len(PREFIX) :]] == ["nice", "yes", "x"]
    assert recent(history) == ["bad", "let us sing", "cut off", "nice", "yes"]


def test_long_texts_are_remembered_in_part() -> None:
    (kept,) = remember((), Exchange("h" * 5000, "s" * 5000, passed=False))
    assert (len(kept.heard), len(kept.said), kept.passed) == (MAX_EXCHANGE_CHARS, MAX_EXCHANGE_CHARS, False)


@given(st.integers(0, 60))
def test_the_history_is_bounded_and_keeps_the_newest(n: int) -> None:
    history = history_of(n)
    assert len(history) <= MAX_EXCHANGES
    assert len(history) >= min(n, MAX_EXCHANGES // 2 + 1)
    assert [e.heard for e in history] == [f"heard {i}" for i in range(n - len(history), n)]


def test_most_turns_begin_with_the_whole_prompt_of_the_turn_before() -> None:
    kept = 0
    turns = 40
    for n in range(turns):
        before, after = messages(history_of(n), "x")[:-1], messages(history_of(n + 1), "x")
        kept += after[: len(before)] == before
    assert kept >= turns * 3 // 4

"""Lines of keys, for every way in which TOML lets them be written."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pommai.toml_lines import Keys, Place, error_line, lines

EVERYTHING = '''\
# a comment with [brackets] and a "quote
top = 1

[a] # [not.a.header]
one = "x = 1 # \\" ["
'two three' = 'literal \\'
"four\\u0021" = 4
five . "six.seven" = [ # ]
  "]", '[', """
  [b]
  key = "no key"
  \\""" still text """", # "
  { deep = [1, 2] },
]

  [a."b c".d]
  text = """
[c]
no = 1"""
  raw = \'\'\'
no = 2
\'\'\'\'\'
  inline = { x = 1, y = { z = "}" } }
[[many]]
n = 1979-05-27 07:32:00
[[many]]
n = 2
[ g . h ]
last = true'''


def test_every_way_to_write_a_key_or_a_value() -> None:
    tomllib.loads(EVERYTHING)
    assert lines(EVERYTHING) == {
        ("top",): 2,
        ("a",): 4,
        ("a", "one"): 5,
        ("a", "two three"): 6,
        ("a", "four!"): 7,
        ("a", "five"): 8,
        ("a", "five", "six.seven"): 8,
        ("a", "b c"): 16,
        ("a", "b c", "d"): 16,
        ("a", "b c", "d", "text"): 17,
        ("a", "b c", "d", "raw"): 20,
        ("a", "b c", "d", "inline"): 23,
        ("many",): 24,
        ("many", "n"): 25,
        ("g",): 28,
        ("g", "h"): 28,
        ("g", "h", "last"): 29,
    }


def test_a_header_of_its_own_counts_more_than_a_mention() -> None:
    assert lines("[a.b]\n[a]\n[a.c]\n") == {("a", "b"): 1, ("a",): 2, ("a", "c"): 3}


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment", "# one\n  # two\n"])
def test_a_file_without_keys_has_no_lines(text: str) -> None:
    assert lines(text) == {}


KEYS = st.one_of(
    st.from_regex(r"[A-Za-z0-9_-]{1,4}", fullmatch=True),
    st.text("ab. []#=\"'{}\t\u00e9", max_size=4),
)
TEXTS = st.text("ab \"'[]{}#=.\\,\n\u00e9", max_size=12)


def quoted(text: str) -> str:
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}
    return '"' + "".join(escapes.get(char, char) for char in text) + '"'


def written_key(draw: st.DrawFn, key: str) -> str:
    ways = [quoted(key)]
    if key and key.isascii() and key.replace("-", "").replace("_", "").isalnum():
        ways.append(key)
    if "'" not in key:
        ways.append(f"'{key}'")
    return draw(st.sampled_from(ways))


@st.composite
def values(draw: st.DrawFn, depth: int = 2) -> str:
    text = draw(TEXTS)
    ways = ["1", "-2.5e3", "true", "1979-05-27T07:32:00Z", quoted(text), '"""\n' + quoted(text)[1:-1] + '\n"""']
    if "'" not in text:
        ways.append(f"'''{text}'''")
    if depth:
        inner = draw(st.lists(values(depth - 1), max_size=2))
        ways.append("[" + "".join(f"\n{value}, # ] \" '\n" for value in inner) + "]")
        ways.append("{" + ", ".join(f"{quoted('=')} = {value}" for value in inner[:1]) + "}")
    return draw(st.sampled_from(ways))


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, dict[Keys, int]]:
    """A document of sections with keys, and the line of each."""
    text, expected = "", {}
    for section in draw(st.lists(KEYS, max_size=4, unique=True)):
        text += draw(st.sampled_from(["", "\n", "# [no]\n\n", "  "]))
        expected[(section,)] = text.count("\n") + 1
        text += f"[ {written_key(draw, section)} ]" + draw(st.sampled_from(["\n", " # x = 1\n"]))
        for key in draw(st.lists(KEYS, max_size=4, unique=True)):
            text += draw(st.sampled_from(["", "\n", "\t", '# "\n']))
            expected[(section, key)] = text.count("\n") + 1
            text += f"{written_key(draw, key)} = {draw(values())}" + draw(st.sampled_from(["\n", " # [ ' \n"]))
    return text, expected


@given(documents())
def test_every_key_of_any_document_is_found_in_its_line(document: tuple[str, dict[Keys, int]]) -> None:
    text, expected = document
    parsed: dict[str, Any] = tomllib.loads(text)
    assert {(section, key) for section in parsed for key in parsed[section]} == {k for k in expected if len(k) == 2}
    assert lines(text) == expected


@given(st.text("ab.=[]{}#\"'\\\n ", max_size=40))
def test_no_text_at_all_makes_it_stumble(text: str) -> None:
    found = lines(text)
    assert all(1 <= line <= text.count("\n") + 1 for line in found.values())


def test_a_place_reads_as_file_line_and_key() -> None:
    place = (
        Place("a.toml", lines("[toys.bobo]\n\nvolume = 1\nlimits = {\u0022day\u0022 = 3}"))
        .inside("toys")
        .inside("bobo")
    )
    assert str(place) == "a.toml:1: toys.bobo"
    assert str(place.inside("volume")) == "a.toml:3: toys.bobo.volume"
    assert str(place.inside("limits").inside("day")) == "a.toml:4: toys.bobo.limits.day"
    assert place.inside("none").where == "a.toml:1"


def test_what_is_nowhere_is_said_to_be_in_the_first_line() -> None:
    assert Place("a.toml", {}).inside("x").where == Place("a.toml", {}).where == "a.toml:1"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("x = 1\ny =", 2),
        ("x = 1\n\ny = [\n", 3),
        ("x = 1\nx = 2\n", 2),
        ("a = 'b\n", 1),
        ("a = 1\n\n= 2\n", 3),
        ("x", 1),
    ],
)
def test_the_line_of_an_error_is_the_one_that_tomllib_means(text: str, line: int) -> None:
    with pytest.raises(tomllib.TOMLDecodeError) as raised:
        tomllib.loads(text)
    assert error_line(raised.value, text) == line

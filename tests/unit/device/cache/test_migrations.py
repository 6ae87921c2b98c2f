"""Numbered migrations: each step on its own, with what was there before, and with the oldest sqlite-utils we run on."""

from __future__ import annotations

import ast
import inspect
import sqlite3
from pathlib import Path

import pytest

from pommai import sqlite
from pommai.device.cache import database

from .opened import event, fetch, names, opened, phrase, unsent_ids

TABLES = [{"events"}, {"events", "phrases", "pieces"}, {"events", "phrases", "pieces", "memory", "log"}]


def tables(path: Path) -> set[str]:
    connection = sqlite3.connect(path)
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    return names


def make(path: Path, version: int) -> sqlite3.Connection:
    schema = sqlite.Schema(database.APPLICATION_ID, database.MIGRATIONS[:version])
    return sqlite.open_database(path, schema, database.PRAGMAS)


@pytest.mark.parametrize("version", range(1, len(database.MIGRATIONS) + 1))
async def test_every_step_on_its_own_and_from_each_to_the_last(tmp_path: Path, version: int) -> None:
    path = tmp_path / "toy.db"
    connection = make(path, version)
    assert sqlite.number(connection, "user_version") == version
    connection.execute(
        "INSERT INTO events (id, kind, at_s, priority, pending, size, data) VALUES ('old', 'turn', 1.0, 1, 1, 50, '{}')"
    )
    connection.close()
    assert tables(path) == TABLES[version - 1]
    hello, blob = phrase("hello")
    async with opened(path) as cache:
        assert cache.problem == ""
        await cache.append(event(1))
        await cache.manifest("r1", [hello])
        await fetch(cache, {"hello": blob})
        await cache.remember("volume", 0.5)
        await cache.log(1.0, "boot")
    async with opened(path) as cache:
        assert await unsent_ids(cache) == ["old", "e1"]
        assert await cache.revision() == "r1" and await cache.recall("volume") == 0.5
        assert len(await cache.recent_log(10)) == 1
    assert tables(path) == TABLES[-1]
    assert names(tmp_path) == ["toy.db"]


def test_an_upgrade_that_is_cut_short_leaves_the_version_of_before(tmp_path: Path) -> None:
    path = tmp_path / "toy.db"
    make(path, 1).close()

    def fails(_: object) -> None:
        raise sqlite3.OperationalError("power cut")

    schema = sqlite.Schema(database.APPLICATION_ID, (*database.MIGRATIONS[:2], fails))
    with pytest.raises(sqlite.StoreError, match="power cut"):
        sqlite.open_database(path, schema, database.PRAGMAS)
    assert tables(path) == TABLES[0]
    make(path, len(database.MIGRATIONS)).close()
    assert tables(path) == TABLES[-1]


def test_the_migrations_use_only_what_the_oldest_sqlite_utils_has() -> None:
    """Debian bookworm has 3.30, whose `Database.table`, `create` and `create_index` take these arguments."""
    known = {
        "table": set(),
        "create": {"pk", "foreign_keys", "column_order", "not_null", "defaults", "if_not_exists"},
        "create_index": {"index_name", "unique", "if_not_exists"},
        "add_column": {"fk", "fk_col", "not_null_default"},
    }
    calls = 0
    for step in database.MIGRATIONS:
        for node in ast.walk(ast.parse(inspect.getsource(step))):
            if isinstance(node, ast.Call):
                assert isinstance(node.func, ast.Attribute)
                assert {keyword.arg for keyword in node.keywords} <= known[node.func.attr]
                calls += 1
    assert calls >= 10

"""Whole files out of others: a new one in place of a damaged one, and one that takes back what was set aside.

Every function runs in the cache's thread.
"""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

from pommai import sqlite
from pommai.device.cache import aside, database
from pommai.device.cache.database import Damaged
from pommai.device.cache.rescue import copy
from pommai.device.cache.tables import Tables
from pommai.device.settings import CacheSettings
from pommai.errors import StoreError

_log = logging.getLogger(__name__)


def tables_in(path: Path, settings: CacheSettings) -> Tables:
    """The tables of a file that is whole, or new. Raises StoreError."""
    connection = sqlite.connect(path, busy_s=database.BUSY_S)
    try:
        database.make_ready(connection, path)
    except StoreError:
        close(connection)
        raise
    return Tables(connection, settings, in_memory=False)


def rebuild(connection: sqlite3.Connection, path: Path, settings: CacheSettings, now_s: float) -> Tables:
    """The tables of a new file at `path` with what can be read of the damaged one, which is set aside.

    `connection`: to the damaged file; it stays there until all that was read is on the disk. Raises StoreError, and
    OSError.
    """
    new = aside.new_beside(path)
    try:
        _rescue(connection, new, settings)
    except (StoreError, sqlite3.DatabaseError) as error:
        aside.remove(new)  # it only takes up room
        why = error if isinstance(error, StoreError) else sqlite.store_error(new, error)
        raise StoreError(f"{path} is damaged, and cannot be made anew: {why}") from error
    name = aside.swap(path, now_s).name
    _log.error("the database is damaged, set aside as %s", name)
    return tables_in(path, settings)


def _rescue(connection: sqlite3.Connection, new: Path, settings: CacheSettings) -> None:
    """Write what can be read into a new file: when this returns, that is on the disk, and whole without its log."""
    rescued = tables_in(new, settings)
    try:
        with rescued.transaction(durable=True):
            copy(connection, rescued, prefer_source=True, history=True)
        database.fold_log(rescued.connection)
    finally:
        close(rescued.connection)


def take_back(tables: Tables, path: Path, now_s: float) -> None:
    """Merge what was set aside because it was newer, and no longer is; what fails is for the log, and the next time."""
    try:
        newer = aside.newer_files(path, len(database.MIGRATIONS))
    except OSError as error:
        _log.error("%s cannot be looked through: %s", path.parent, error.strerror)
        return
    for each in newer:
        try:
            if _merge(each, tables):
                aside.remove(each)
            else:
                aside.set_damaged_aside(path, each, now_s)
        except (StoreError, OSError, sqlite3.DatabaseError) as error:
            _log.error("%s is not taken back yet: %s", each.name, error)
        else:
            _log.info("the database of before is taken back from %s", each.name)


def _merge(path: Path, tables: Tables) -> bool:
    """Copy what can be read from the file at `path`; whether it was whole. Raises what it meets."""
    source = sqlite.connect(path, busy_s=database.BUSY_S)
    whole = True
    try:
        try:
            database.make_ready(source, path)
        except Damaged:
            whole = False
        with tables.transaction(durable=True):
            copy(source, tables, prefer_source=False, history=True)
    finally:
        close(source)
    return whole


def close(connection: sqlite3.Connection) -> None:
    """Close a connection to a file that may fail even in that."""
    try:
        connection.close()
    except sqlite3.Error as error:
        _log.warning("the database did not close: %s", error)

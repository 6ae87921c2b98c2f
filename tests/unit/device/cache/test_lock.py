"""Two daemons on one database: the second is told, and a lock never outlives its process."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from pathlib import Path

import pytest

from pommai.device.cache.lock import InUseError, Lock

from .opened import event, names, opened, unsent_ids

ROOT = Path(__file__).parents[4]


async def test_a_second_one_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "toy.db"
    async with opened(path) as cache:
        assert names(tmp_path)[:2] == ["toy.db", "toy.db-shm"] and "toy.db.lock" in names(tmp_path)
        with pytest.raises(InUseError, match="another daemon uses") as refused:
            async with opened(path):
                pass
        assert refused.value.exit_code == 69 and "cache.path" in refused.value.remedy
        await cache.append(event(1), durable=True)
        assert cache.lasts
    assert names(tmp_path) == ["toy.db"]
    async with opened(path) as cache:
        assert await unsent_ids(cache) == ["e1"]


async def test_another_name_of_the_same_file_is_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "other.db").symlink_to(tmp_path / "toy.db")
    async with opened(tmp_path / "toy.db"):
        with pytest.raises(InUseError, match=r"other\.db"):
            async with opened(tmp_path / "other.db"):
                pass


async def test_two_toys_share_a_folder(tmp_path: Path) -> None:
    async with opened(tmp_path / "bear.db") as bear, opened(tmp_path / "fox.db") as fox:
        assert bear.lasts and fox.lasts


async def test_memory_is_nobody_elses(tmp_path: Path) -> None:
    async with opened(":memory:") as first, opened(":memory:") as second:
        assert not first.lasts and not second.lasts and first.problem == ""


async def test_one_that_was_killed_holds_nobody_up(tmp_path: Path) -> None:
    path = tmp_path / "toy.db"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.unit.device.cache.appender", path, "1", cwd=ROOT, stdout=-1
    )
    assert process.stdout
    await asyncio.wait_for(process.stdout.readline(), 30)
    with pytest.raises(InUseError):
        async with opened(path):
            pass
    process.kill()
    await process.stdout.read()
    await process.wait()
    async with opened(path) as cache:
        assert "e1" in await unsent_ids(cache)
    assert names(tmp_path) == ["toy.db"]


async def test_a_folder_that_comes_later_may_have_an_owner_by_then(tmp_path: Path) -> None:
    path = tmp_path / "state" / "toy.db"
    async with opened(path) as late:
        make(path.parent)
        async with opened(path) as early:
            await late.append(event(1))
            assert not await late.retry() and "another daemon" in late.problem
            assert await unsent_ids(early) == []
        assert await late.retry() and late.lasts
        assert await unsent_ids(late) == ["e1"]


def make(folder: Path) -> None:
    folder.mkdir()


def test_a_lock_that_was_removed_meanwhile_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one who had it removes it between our opening it and our locking it."""
    first, second, third = (Lock(tmp_path / "toy.db") for _ in range(3))
    first.take()
    opening = os.open

    def late(path: Path, flags: int, mode: int) -> int:
        descriptor = opening(path, flags, mode)
        first.release()
        return descriptor

    monkeypatch.setattr(os, "open", late)
    second.take()
    monkeypatch.undo()
    with pytest.raises(InUseError):
        third.take()
    second.release()
    third.take()
    third.release()
    assert names(tmp_path) == []


@pytest.mark.parametrize("function", ["os.open", "fcntl.flock"])
async def test_where_no_lock_can_be_the_toy_lives_without(
    function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module, name = (sys.modules[function.split(".")[0]], function.split(".")[1])
    real = getattr(module, name)

    def refused(what: object, *rest: object) -> object:
        if name == "flock" or str(what).endswith(".lock"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(what, *rest)

    monkeypatch.setattr(module, name, refused)
    async with opened(tmp_path / "toy.db") as cache:
        assert cache.lasts and cache.problem == ""
    assert [record.message for record in caplog.records] == [
        "the cache has no lock, so that a second daemon would not be noticed: Read-only file system"
    ]

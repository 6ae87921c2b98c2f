"""A disk that is full, read-only or damaged: the toy talks on, says what is wrong, and keeps what can be kept."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from pommai import starter
from pommai.starter import PhraseKind
from tests.faults.conftest import MakeToy
from tests.faults.pommaid import AWAY, Pommaid, light_of
from tests.faults.sounds import said
from tests.faults.together import together

AS_ROOT = [] if os.geteuid() == 0 else ["--map-root-user"]  # a chroot allows no new user namespace

DISK = """
mount -t tmpfs -o size=6m tmpfs "$DISK"
cp toy.db "$DISK/toy.db"
if test -n "$READ_ONLY"; then mount -o remount,ro "$DISK"; fi
exec "$@"
"""


def on_a_disk(toy: MakeToy, folder: Path, name: str, *, read_only: bool = False) -> Pommaid:
    """A toy whose memory is on a small disk of its own, in a mount namespace of its own."""
    disk = folder / f"{name}-disk"
    disk.mkdir()
    return toy(
        name=name,
        sections={"cache": {"path": str(disk / "toy.db")}},
        env={"DISK": str(disk), "READ_ONLY": "yes" if read_only else ""},
        before=["unshare", "--mount", *AS_ROOT, "sh", "-ec", DISK, "sh"],
    )


def as_it_sees(bear: Pommaid, path: str) -> Path:
    """A path in the toy's own mount namespace."""
    assert bear.process is not None
    return Path(f"/proc/{bear.process.pid}/root{path}")


def urgent_events(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        count: int = connection.execute("SELECT count(*) FROM events WHERE kind = 'help'").fetchone()[0]
        return count


async def helps(bear: Pommaid) -> None:
    """A call for help is answered in the toy's own voice."""
    await bear.until(lambda status: status["state"] in ("connecting", "offline"))
    await bear.hear()
    await bear.press(4200)
    await bear.until("playing")
    await bear.until("offline", 60)
    assert said(await bear.hear(), PhraseKind.HELP)
    assert bear.lights("playing") == {"green"}


async def shows_trouble(bear: Pommaid) -> None:
    """The light turns red and amber for a moment, and the log names the reason."""
    await bear.until(lambda _: bear.lights(*AWAY) >= {"red", "amber"})
    await bear.until(lambda status: light_of(status) in ("dark", "white"))
    assert "the cache lives in memory: " in bear.log


async def test_a_disk_that_is_of_no_use(toy: MakeToy, tmp_path: Path) -> None:
    async def full() -> None:
        async with on_a_disk(toy, tmp_path, "full") as bear:
            assert (await bear.status())["cache"]["problem"] == ""
            await bear.until_seen("connecting", "amber", "dark")
            disk = as_it_sees(bear, str(tmp_path / "full-disk"))
            _fill(disk / "rubbish")
            await helps(bear)
            await shows_trouble(bear)
            status = await bear.status()
            assert "full" in status["cache"]["problem"]
            assert status["cache"]["urgent"] == 1
            assert status["cache"]["phrases"] == len(starter.load()), "it keeps its voice"
            (disk / "rubbish").unlink()
            kept = os.open(
                disk, os.O_RDONLY | os.O_DIRECTORY
            )  # the disk outlives its toy for as long as somebody holds it
            try:
                assert (await bear.end())[0] == 0
                assert urgent_events(_copied(kept, tmp_path)) == 1, "written down as soon as there is room"
            finally:
                os.close(kept)

    async def read_only() -> None:
        async with on_a_disk(toy, tmp_path, "read-only", read_only=True) as bear:
            await shows_trouble(bear)
            status = await bear.status()
            assert status["cache"]["problem"]
            assert status["cache"]["phrases"] == len(starter.load())
            await helps(bear)
            assert (await bear.status())["cache"]["urgent"] == 1
            code, seconds = await bear.end()
            assert (code, seconds < 2) == (0, True)

    async def damaged() -> None:
        async with toy(name="damaged") as bear:
            await helps(bear)
            await bear.kill()
            database = bear.folder / "toy.db"
            with closing(sqlite3.connect(database)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            _damage(database)
            await bear.start()
            status = await bear.status()
            assert status["cache"]["problem"] == "", "a new file was made"
            assert status["cache"]["urgent"] == 1, "the call for help was salvaged"
            assert [path for path in bear.folder.iterdir() if ".damaged-" in path.name]
            assert "the database is damaged, set aside as" in bear.log
            assert (await bear.ask("play", phrase="joke-1"))["ok"]
            await bear.until("playing")
            await bear.until_heard(500)
            assert bear.lights("playing") == {"green"}
            assert "red" not in bear.lights(*AWAY), "it has mended itself"
            assert (await bear.end())[0] == 0
            assert urgent_events(database) == 1

    await together(full=full(), read_only=read_only(), damaged=damaged())


def _copied(disk: int, folder: Path) -> Path:
    """The database on a disk that nobody has mounted any more, as a file in `folder`."""
    assert "toy.db-wal" not in os.listdir(disk), "it was closed in good order"
    copy = folder / "copied.db"
    with open("toy.db", "rb", opener=lambda name, flags: os.open(name, flags, dir_fd=disk)) as file:
        copy.write_bytes(file.read())
    return copy


def _fill(path: Path) -> None:
    """Write until nothing more fits."""
    with path.open("wb", buffering=0) as file:
        for size in (65_536, 512):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))


def _damage(database: Path) -> None:
    """Overwrite what is in the middle of the file, as a bad card does: sounds of phrases, mostly."""
    size = database.stat().st_size
    with database.open("r+b") as file:
        file.seek(size // 2)
        file.write(os.urandom(16_384))

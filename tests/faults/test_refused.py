"""A relay that cannot be found, trusted or persuaded: the reason is told with its remedy, and mending it is enough."""

from __future__ import annotations

import datetime
import signal
from pathlib import Path

import trustme

from pommai.starter import PhraseKind
from tests.faults.conftest import MakeRelay, MakeToy
from tests.faults.pommaid import Pommaid
from tests.faults.sounds import REPLY, before, earcons, pitches, pitches_of, question, said
from tests.faults.together import together


def certificate(folder: Path, name: str, authority: trustme.CA, *, days: float = 0.0) -> tuple[Path, Path]:
    """The files of a certificate for 127.0.0.1, and its key; valid from so many `days` on, for ten."""
    begins = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    issued = authority.issue_cert("127.0.0.1", not_before=begins, not_after=begins + datetime.timedelta(days=10))
    chain, key = folder / f"{name}.pem", folder / f"{name}.key"
    issued.private_key_pem.write_to_path(key)
    for number, part in enumerate(issued.cert_chain_pems):
        part.write_to_path(chain, append=number > 0)
    return chain, key


async def refused(bear: Pommaid, why: str, folder: Path) -> None:
    """The toy tells why, and whoever looks or presses sees and hears that it reaches nobody; then it plays alone."""
    await bear.until_seen("connecting", "amber", "dark")
    assert said(await bear.says(say=question(folder)), PhraseKind.UNREACHABLE)
    await bear.until(lambda status: why in status["relay"]["why_not"])
    await bear.until("offline")
    await bear.until_seen("offline", "white", "dark")
    played = await bear.says(say=question(folder))
    assert said(played, PhraseKind.AFFECTION) and before(played, PhraseKind.AFFECTION), "something, and a kind word"
    assert bear.lights("playing") == {"green"}
    assert earcons(played) == [], "nobody listens, so nothing says so"


async def works(bear: Pommaid, folder: Path) -> None:
    """A turn from the press to the end of its answer."""
    await bear.until("idle", 40)
    await bear.hear()
    await bear.press(say=question(folder))
    await bear.until("speaking")
    await bear.until("idle")
    assert pitches(await bear.hear()) == pitches_of(*REPLY)


async def test_a_relay_that_cannot_be_used(relay: MakeRelay, toy: MakeToy, tmp_path: Path) -> None:
    ours, theirs = trustme.CA(), trustme.CA()
    our_file, their_file = tmp_path / "ours.pem", tmp_path / "theirs.pem"
    ours.cert_pem.write_to_path(our_file)
    theirs.cert_pem.write_to_path(their_file)

    async def unknown_host() -> None:
        """Whatever looks names up here: it knows no such name, or it does not answer at all."""
        url = "ws://relay.pommai.invalid/v1/toy"
        async with toy(url, name="lost", sections={"relay": {"insecure": True}}) as bear:
            await refused(bear, "the host of ws://relay.pommai.invalid/v1/toy ", tmp_path)

    async def wrong_certificate() -> None:
        async with relay("relay-1", tls=certificate(tmp_path, "good", ours)) as lighthouse:
            sections = {"relay": {"ca_file": str(their_file)}}
            async with toy(lighthouse.url, await lighthouse.token(), "careful", sections=sections) as bear:
                await refused(bear, "is not trusted", tmp_path)
                assert "relay.ca_file" in (await bear.status())["relay"]["why_not"]
                bear.configure(relay={"ca_file": str(our_file)})
                assert bear.process is not None
                bear.process.send_signal(signal.SIGHUP)
                await works(bear, tmp_path)

    async def certificate_of_tomorrow() -> None:
        async with relay("relay-2", tls=certificate(tmp_path, "early", ours, days=1)) as lighthouse:
            sections = {"relay": {"ca_file": str(our_file)}}
            async with toy(lighthouse.url, await lighthouse.token(), "early", sections=sections) as bear:
                await refused(bear, "not yet valid", tmp_path)
                assert "clock" in (await bear.status())["relay"]["why_not"]

    async def token_revoked_and_given_back() -> None:
        async with relay("relay-3") as lighthouse:
            first = await lighthouse.token()
            credential = tmp_path / "pommai_relay_token"
            credential.write_text(first, encoding="utf-8")
            env = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
            async with toy(lighthouse.url, "", "revoked", env=env) as bear:
                await works(bear, tmp_path)
                await lighthouse.revoke()
                await refused(bear, "revoked", tmp_path)
                credential.write_text(second := await lighthouse.token(), encoding="utf-8")
                assert bear.process is not None
                bear.process.send_signal(signal.SIGHUP)
                await works(bear, tmp_path)
                assert not any(word in bear.log for word in (first, second, "Traceback"))

    await together(
        unknown_host=unknown_host(),
        wrong_certificate=wrong_certificate(),
        certificate_of_tomorrow=certificate_of_tomorrow(),
        token_revoked_and_given_back=token_revoked_and_given_back(),
    )

"""Addresses and certificates: refused early, with a word about what to change."""

from __future__ import annotations

import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from pommai.errors import AddressError, ConfigError
from pommai.relay import listening
from pommai.relay.settings import ServerSettings


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two certificates with their keys, one key with a passphrase, and a file that is none of this."""
    folder = tmp_path_factory.mktemp("pems")
    for name in ("one", "two"):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
             "-keyout", f"{name}.key", "-out", f"{name}.crt"],
            cwd=folder, check=True, capture_output=True,
        )  # fmt: skip
    subprocess.run(
        ["openssl", "ec", "-in", "one.key", "-out", "locked.key", "-aes256", "-passout", "pass:x"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    (folder / "letter.txt").write_text("Dear grandmother")
    (folder / "empty.pem").write_text("-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n")
    return folder


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.3.2.1"])
def test_plain_ws_on_this_machine(host: str) -> None:
    assert listening.tls_context(ServerSettings(host=host)) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.5", "relay.example", "localhost.example"])
def test_plain_ws_for_other_machines_is_refused_unless_the_owner_insists(host: str) -> None:
    with pytest.raises(ConfigError, match=r"no TLS.*server\.insecure"):
        listening.tls_context(ServerSettings(host=host))
    assert listening.tls_context(ServerSettings(host=host, insecure=True)) is None


def test_a_certificate_and_its_key(pems: Path) -> None:
    settings = ServerSettings("0.0.0.0", tls_cert=str(pems / "one.crt"), tls_key=str(pems / "one.key"))
    context = listening.tls_context(settings)
    assert context is not None and context.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("cert", "key", "problem"),
    [
        ("one.crt", "two.key", "does not belong to"),
        ("one.crt", "", "tls_key must be set too"),
        ("", "one.key", "tls_cert must be set too"),
        ("missing.crt", "one.key", "missing.crt cannot be read: No such file"),
        ("one.crt", ".", "cannot be read: Is a directory"),
        ("letter.txt", "one.key", "letter.txt is not a PEM file"),
        ("one.crt", "locked.key", "no passphrase"),
        ("empty.pem", "one.key", "cannot be used"),
        ("one.key", "one.key", "cannot be used"),
        ("one\0.crt", "one.key", "server.tls_cert holds a character that no path has"),
    ],
)
def test_what_is_wrong_with_a_certificate(pems: Path, cert: str, key: str, problem: str) -> None:
    settings = ServerSettings(tls_cert=cert and str(pems / cert), tls_key=key and str(pems / key))
    with pytest.raises(ConfigError) as caught:
        listening.tls_context(settings)
    assert problem in str(caught.value)


def test_both_files_are_looked_at_before_anything_is_said() -> None:
    with pytest.raises(ConfigError) as caught:
        listening.tls_context(ServerSettings(tls_cert="/a/b.crt", tls_key="/a/b.key"))
    assert len(caught.value.problems) == 2


def test_every_address_of_a_name_gets_the_same_port() -> None:
    sockets = listening.bind(ServerSettings("localhost", port=0))
    try:
        assert len({bound.getsockname()[1] for bound in sockets}) == 1
        assert all(bound.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) for bound in sockets)
    finally:
        for bound in sockets:
            bound.close()


def test_a_port_that_is_taken_is_named() -> None:
    (first,) = listening.bind(ServerSettings(port=0))
    with (
        first,
        pytest.raises(AddressError, match=rf"127\.0\.0\.1:{first.getsockname()[1]} is taken by another program"),
    ):
        listening.bind(ServerSettings(port=first.getsockname()[1]))


@pytest.mark.parametrize(
    ("host", "problem"),
    [
        ("192.0.2.77", "is not an address of this machine"),
        ("no-such-host.invalid", "not a name or address"),
        ("a" * 300, "not a name or address"),
    ],
)
def test_an_address_that_is_not_ours(host: str, problem: str) -> None:
    with pytest.raises(AddressError, match=problem):
        listening.bind(ServerSettings(host=host, port=0))


def test_a_port_that_only_the_system_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> socket.socket:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(listening.socket, "create_server", refuse)
    with pytest.raises(AddressError, match=r"127\.0\.0\.1:80 may not be used"):
        listening.bind(ServerSettings(port=80))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (ServerSettings(), "ws://127.0.0.1:1/v1/toy"),
        (ServerSettings("::1"), "ws://[::1]:1/v1/toy"),
        (ServerSettings("0.0.0.0", tls_cert="x"), "wss://127.0.0.1:1/v1/toy"),
        (ServerSettings("::"), "ws://[::1]:1/v1/toy"),
        (ServerSettings("relay.example", tls_cert="x"), "wss://relay.example:1/v1/toy"),
    ],
)
def test_where_a_toy_on_this_machine_finds_the_relay(settings: ServerSettings, expected: str) -> None:
    assert listening.url(settings, 1) == expected

"""Which relay addresses a toy may use, how it trusts them, and what it means when one refuses."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from urllib.parse import urlsplit

from pommai.device.settings import RelayLink
from pommai.errors import ConfigError
from pommai.schema import Problem


def check_address(relay: RelayLink) -> None:
    """Raises ConfigError if `relay` names no WebSocket address, one that shows the token to all, or an odd token."""
    if problems := address_problems(relay):
        raise ConfigError([str(problem) for problem in problems])


def address_problems(relay: RelayLink) -> list[Problem]:
    """What is wrong with address and token; the texts hold neither."""
    problems = []
    token = relay.token.reveal()
    if not is_whole_token(token):
        problems.append(Problem(("relay.token",), "holds characters that no token has; was it copied whole and alone?"))
    try:
        url = urlsplit(relay.url)
        is_complete = url.scheme in ("ws", "wss") and bool(url.hostname) and url.port != 0
    except ValueError:  # a port or an IPv6 address that is none
        is_complete = False
    if not is_complete:
        return [Problem(("relay.url",), "must look like wss://relay.example/v1/toy"), *problems]
    if url.username or url.password:
        what = "must hold no user name and no password; the token has a setting of its own"
        problems.append(Problem(("relay.url",), what))
    if url.scheme == "ws" and not relay.insecure and not is_loopback(url.hostname or ""):
        what = "is plain ws:// to another machine; use wss://, or set relay.insecure = true"
        problems.append(Problem(("relay.url", "relay.insecure"), what))
    return problems


def is_whole_token(token: str) -> bool:
    """Whether a token, or none, has only characters that a header may have."""
    return token.isascii() and token.isprintable() and " " not in token


def is_loopback(host: str) -> bool:
    """Whether `host` can only be this machine; names other than `localhost` are not looked up, so they are not."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def tls_context(relay: RelayLink) -> ssl.SSLContext | None:
    """Trust for a wss:// address, None for plain ws://. Raises ConfigError for a CA file that cannot be used."""
    if urlsplit(relay.url).scheme != "wss":
        return None
    try:
        return ssl.create_default_context(cafile=relay.ca_file or None)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError; a path may be none
        raise ConfigError([str(_no_certificates(relay))]) from error


def trust_problems(relay: RelayLink) -> list[Problem]:
    """What is wrong with the CA file; plain ws:// needs none, so that it is not looked at."""
    if not relay.ca_file or relay.url.lower().startswith("ws:"):
        return []
    try:
        ssl.create_default_context(cafile=relay.ca_file)
    except (OSError, ValueError):
        return [_no_certificates(relay)]
    return []


def _no_certificates(relay: RelayLink) -> Problem:
    return Problem(("relay.ca_file",), f"{relay.ca_file} holds no certificates that can be read")


def refusal(error: Exception, status: int | None, url: str, *, clock_trusted: bool = True) -> str:
    """What a failed attempt to open `url` means, as one sentence that names the remedy; it holds no secret.

    `status`: the HTTP status, if there was an answer to the upgrade. `clock_trusted`: whether the toy knows the time.
    """
    match error:
        case _ if status is not None:
            return _refused_status(status, url)
        case ssl.SSLCertVerificationError():
            return _distrust(error, url, clock_trusted=clock_trusted)
        case ssl.SSLError():
            return f"no secure connection to {url} ({error.reason or 'TLS failed'}); does the relay speak TLS there?"
        case TimeoutError():
            return f"{url} did not answer in time; is the relay up, and does a firewall let us through?"
        case socket.gaierror(errno=socket.EAI_AGAIN):
            return f"the host of {url} cannot be looked up; is there a network, and does its DNS answer?"
        case socket.gaierror():
            return f"the host of {url} is not known; is the name right?"
        case ConnectionRefusedError():
            return f"nothing listens at {url}; does the relay run (`pommai relay run`)?"
        case OSError():
            return f"{url} cannot be reached ({error.strerror or 'no address of it answers'})"
        case _:
            return f"{url} does not speak WebSocket"


def _refused_status(status: int, url: str) -> str:
    match status:
        case 401 | 403:
            return f"{url} refuses the device token (HTTP {status}); set relay.token to one of `pommai relay token add`"
        case 404:
            return f"{url} is no relay for toys (HTTP 404); the path is usually /v1/toy"
        case _ if 300 <= status < 400:
            return f"{url} sends us to another address (HTTP {status}); set relay.url to that one"
        case 429:
            return f"{url} asks to wait a minute (HTTP 429): too many refused attempts came from this address"
        case _:
            return f"{url} refuses the connection (HTTP {status})"


_NOT_YET_VALID, _EXPIRED = 9, 10
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""


def _distrust(error: ssl.SSLCertVerificationError, url: str, *, clock_trusted: bool) -> str:
    if error.verify_code not in (_NOT_YET_VALID, _EXPIRED):
        return f"the certificate of {url} is not trusted ({error.verify_message}); is relay.ca_file right?"
    if not clock_trusted:
        return (
            f"the certificate of {url} seems out of date ({error.verify_message}), but this toy does not know the time "
            "yet; let it reach a time server (`timedatectl status`), or set the clock with `timedatectl set-time`"
        )
    if error.verify_code == _NOT_YET_VALID:
        return f"the certificate of {url} is not valid yet ({error.verify_message}); is the clock of this toy right?"
    return f"the certificate of {url} has expired; renew it on the relay, or is the clock of this toy wrong?"

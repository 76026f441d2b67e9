"""The fixture proves itself with other people's clients, before our library comes into play."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest
from _pytest.outcomes import Failed, Skipped

from tests.peers.directory import ALICE, generated_value
from tests.peers.kdc import BOB, TicketError
from tests.peers.namespace import (
    connect,
    namespace_of,
    require_namespaces,
    start_inside,
    stop_inside,
)
from tests.peers.samba import (
    BASE_DN,
    LARGE_ENTRIES,
    LARGE_VALUE_LENGTH,
    SMALL_ENTRIES,
    Samba,
    large_dn,
    large_value,
    small_dn,
    user_dn,
)
from tests.peers.support import REQUIRE_PEERS, program, require_program, require_sasl_plugin

STRONGER_AUTH_REQUIRED = 8
INVALID_CREDENTIALS = 49
UNWILLING_TO_PERFORM = 53

LAYER_REQUIRED = "SASL:[{}]: Sign or Seal are required."
NO_LAYER_OVER_TLS = "SASL:[{}]: Sign or Seal are not allowed if TLS is used"
LOGON_DENIED = "80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error, data 52e"

SIMPLE = ("-x", "-D", f"{ALICE.username}@{Samba.realm}", "-w", ALICE.password)
WRONG = ("-x", "-D", f"{ALICE.username}@{Samba.realm}", "-w", "wrong")
mechanisms = pytest.mark.parametrize("mechanism", ["GSSAPI", "GSS-SPNEGO"])


@pytest.fixture(scope="module")
def samba(samba: Samba) -> Samba:
    """The server of the whole run, and a ticket for `ldapsearch`."""
    require_program("ldapsearch")
    require_sasl_plugin("gssapiv2")
    samba.kinit()
    return samba


def search(server: Samba, *arguments: str, tls: bool = False) -> subprocess.CompletedProcess[str]:
    """Look Alice up with `ldapsearch`, which needs its environment for TLS."""
    url = server.tls_url if tls else server.url
    return subprocess.run(
        [
            program("ldapsearch"),
            *("-N", "-LLL", "-o", "ldif_wrap=no", "-H", url, *arguments),
            *("-b", BASE_DN, f"(sAMAccountName={ALICE.username})", "1.1"),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, **server.environment},
        timeout=60,
        check=False,
    )


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    _, _, text = done.stderr.partition("additional info: ")
    return text.strip()


def in_namespace(name: str) -> list[str]:
    """The processes that live in a network namespace."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if namespace_of(process.name) == name:
                found.append(process.name)
        except OSError:  # ended by now
            continue
    return found


def test_a_ticket_through_the_relay(samba: Samba, tmp_path: Path) -> None:
    samba.kinit(BOB.username, BOB.password, cache=tmp_path / "bob")
    assert b"bob" in (tmp_path / "bob").read_bytes()


def test_no_ticket_for_a_wrong_password(samba: Samba, tmp_path: Path) -> None:
    with pytest.raises(TicketError, match=r"(?i)password incorrect|preauthentication failed"):
        samba.kinit(BOB.username, "wrong", cache=tmp_path / "bob")


@mechanisms
def test_sealed(samba: Samba, mechanism: str) -> None:
    done = search(samba, "-Y", mechanism)
    assert "SASL SSF: 256\n" in done.stderr
    assert f"dn: {user_dn(ALICE.username)}\n" in done.stdout


@pytest.mark.parametrize(("mechanism", "ssf"), [("GSSAPI", 1), ("GSS-SPNEGO", 256)])
def test_spnego_seals_where_a_signature_was_asked_for(
    samba: Samba, mechanism: str, ssf: int
) -> None:
    done = search(samba, "-Y", mechanism, "-O", "maxssf=1")
    assert f"SASL SSF: {ssf}\n" in done.stderr


@mechanisms
def test_no_layer_in_clear(samba: Samba, mechanism: str) -> None:
    done = search(samba, "-Y", mechanism, "-O", "maxssf=0")
    assert done.returncode == STRONGER_AUTH_REQUIRED
    assert refusal(done) == LAYER_REQUIRED.format(mechanism)


@mechanisms
@pytest.mark.parametrize("start_tls", [False, True], ids=["ldaps", "start_tls"])
def test_a_layer_over_tls(samba: Samba, mechanism: str, start_tls: bool) -> None:
    upgrade = ("-ZZ",) if start_tls else ()
    done = search(samba, "-Y", mechanism, *upgrade, tls=not start_tls)
    assert done.returncode == UNWILLING_TO_PERFORM
    assert refusal(done) == NO_LAYER_OVER_TLS.format(mechanism)


@mechanisms
def test_no_layer_over_tls(samba: Samba, mechanism: str) -> None:
    done = search(samba, "-Y", mechanism, "-O", "maxssf=0", tls=True)
    assert done.returncode == STRONGER_AUTH_REQUIRED
    assert refusal(done) == LAYER_REQUIRED.format(mechanism)


def test_simple_bind_in_clear(samba: Samba) -> None:
    done = search(samba, *SIMPLE)
    assert done.returncode == STRONGER_AUTH_REQUIRED
    assert refusal(done) == "BindSimple: Transport encryption required."


def test_simple_bind_over_tls(samba: Samba) -> None:
    for done in (search(samba, *SIMPLE, tls=True), search(samba, *SIMPLE, "-ZZ")):
        assert f"dn: {user_dn(ALICE.username)}\n" in done.stdout


def test_wrong_password_over_tls(samba: Samba) -> None:
    done = search(samba, *WRONG, tls=True)
    assert done.returncode == INVALID_CREDENTIALS
    assert refusal(done).startswith(LOGON_DENIED)


def test_what_the_servers_own_tool_reads(samba: Samba) -> None:
    large = samba.ldbsearch("(cn=large-*)", "thumbnailPhoto")
    small = samba.ldbsearch("(cn=small-*)", "description")
    assert len(large) == LARGE_ENTRIES
    assert LARGE_ENTRIES * LARGE_VALUE_LENGTH > 20 << 20
    assert large[large_dn(7)] == {"thumbnailPhoto": [large_value(7)]}
    assert len(small) == SMALL_ENTRIES
    assert small[small_dn(7)] == {"description": [generated_value(7).encode()]}


@pytest.mark.usefixtures("samba")
def test_nothing_stays_behind() -> None:
    """Beside the first server: they share no port."""
    threads, mounts = set(threading.enumerate()), Path("/proc/mounts").read_text()
    with Samba() as second:
        pid, folder, namespace = second.pid, second.folder, namespace_of(second.pid)
        assert in_namespace(namespace) == [str(pid)]
        assert namespace != namespace_of()
        second.kinit()
        assert search(second, "-Y", "GSSAPI").returncode == 0
    assert not in_namespace(namespace)
    assert not Path(f"/proc/{pid}").exists()
    assert not folder.exists()
    assert set(threading.enumerate()) <= threads
    assert Path("/proc/mounts").read_text() == mounts


@pytest.mark.parametrize(("required", "outcome"), [("", Skipped), ("1", Failed)])
def test_nobody_may_make_a_namespace(
    monkeypatch: pytest.MonkeyPatch, required: str, outcome: type[BaseException]
) -> None:
    def refuse() -> None:
        raise PermissionError("not root")

    monkeypatch.setattr("tests.peers.namespace.require_program", lambda *names: None)
    monkeypatch.setattr("tests.peers.namespace._move_to_a_new_one", refuse)
    monkeypatch.setenv(REQUIRE_PEERS, required)
    with pytest.raises(outcome, match="no network namespace, which takes root: not root"):
        require_namespaces()


def test_a_program_inside_ends_with_its_standard_input(tmp_path: Path) -> None:
    require_namespaces()
    process = start_inside("cat", log=tmp_path / "log")
    assert process.stdin is not None
    with pytest.raises(ConnectionRefusedError):
        connect(process.pid, 389)
    process.stdin.close()
    assert process.wait(5) == 0
    stop_inside(process)

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.peers.cyrus import cyrus as cyrus
from tests.peers.cyrus import eager_cyrus as eager_cyrus
from tests.peers.cyrus import gss_cyrus as gss_cyrus
from tests.peers.jdk import jdk as jdk
from tests.peers.jdk import jvm as jvm
from tests.peers.libsasl2 import libsasl2 as libsasl2
from tests.peers.libsasl2 import libsasl2_process as libsasl2_process
from tests.peers.meeting import meeting as meeting
from tests.peers.meeting import tapped as tapped
from tests.peers.samba import samba as samba
from tests.peers.shells import shell as shell
from tests.peers.slapd import Slapd
from tests.peers.wiretap import Wiretap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.peers.kdc import Realm
    from tests.peers.wiretap import WiretapFactory

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker("peer")


@pytest.fixture(scope="session")
def slapd() -> Iterator[Slapd]:
    """An OpenLDAP server with 10,000 small entries, one for the whole run."""
    Slapd.require("digestmd5")
    with Slapd(entries=10_000) as server:
        yield server


@pytest.fixture(scope="session")
def strict_slapd() -> Iterator[Slapd]:
    """An OpenLDAP server that insists on SSF 112 or more, as one that demands sealing does."""
    Slapd.require("digestmd5")
    with Slapd(sasl_secprops="minssf=112") as server:
        yield server


@pytest.fixture(scope="session")
def gss_slapd(realm: Realm) -> Iterator[Slapd]:
    """The OpenLDAP server of `slapd`, a service of the realm."""
    Slapd.require("gssapiv2")
    with Slapd(entries=10_000, environment=realm.environment) as server:
        yield server


@pytest.fixture(scope="session")
def bound_slapd(realm: Realm) -> Iterator[Slapd]:
    """The same with TLS, whose certificate it holds a binding against."""
    Slapd.require("gssapiv2")
    config = "sasl-cbinding tls-endpoint\n"
    with Slapd(tls=True, extra_config=config, environment=realm.environment) as server:
        yield server


@pytest.fixture
def wiretap() -> Iterator[WiretapFactory]:
    """`wiretap(host, port)` starts a recording relay that ends with the test."""
    with ExitStack() as stack:
        yield lambda host, port: stack.enter_context(Wiretap(host, port))

"""A program of others that runs beside the tests: from its folder to its end.

What differs is what stands in the folder (`_prepare`) and what runs (`_start`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, ClassVar, Self

from tests.peers.support import (
    LOOPBACK,
    free_port,
    require_program,
    require_sasl_plugin,
    stop_process,
    wait_for_port,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


class Daemon(ABC):
    """It has a folder, config, data, ports and a log of its own, on loopback, while it is entered.

    :param environment: what it finds there beside what we find: that of a realm, say
    """

    host = "localhost"
    address = LOOPBACK

    programs: ClassVar[tuple[str, ...]] = ()
    plugins: ClassVar[tuple[str, ...]] = ()
    """Of Cyrus SASL."""

    user: ClassVar[str | None] = None
    """Whose the folder is to be, where root makes it."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = dict(environment or {})
        self._environ: dict[str, str] = {}
        self._ports: dict[str, int] = {}
        self._folder: Path | None = None
        self._stack = ExitStack()

    @classmethod
    def require(cls, *plugins: str) -> None:
        """Skip the test that asks for it where something is missing; fail where peers are required.

        :param plugins: further ones
        """
        require_program(*cls.programs)
        for name in (*cls.plugins, *plugins):
            require_sasl_plugin(name)

    @abstractmethod
    def _prepare(self) -> None:
        """Fill `folder`, and add to `_environ` what the program has to find there."""

    @abstractmethod
    def _start(self, stack: ExitStack) -> None:
        """Start it; it ends with `stack`."""

    @property
    def folder(self) -> Path:
        assert self._folder is not None, "not started"
        return self._folder

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def ports(self) -> dict[str, int]:
        """The port of each service."""
        assert self._ports, "not started"
        return self._ports

    @property
    def port(self) -> int:
        """That of its first service."""
        return next(iter(self.ports.values()))

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            prefix = f"{type(self).__name__.lower()}-"
            self._folder = Path(stack.enter_context(TemporaryDirectory(prefix=prefix)))
            stack.callback(self._forget)
            self._environ = {**os.environ, **self._environment}
            self._prepare()
            self._give_away()
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _forget(self) -> None:
        self._ports, self._folder = {}, None

    def _choose_ports(self, *services: str) -> None:
        self._ports = {service: free_port() for service in services}

    def _adopt(self) -> None:
        """Copy what a realm keeps in a folder that is closed to others."""
        for name in {"KRB5_CONFIG", "KRB5_KTNAME"} & self._environment.keys():
            source = self._environment[name].removeprefix("FILE:")
            self._environ[name] = str(shutil.copy(source, self.folder))

    def _give_away(self) -> None:
        if self.user is not None and os.geteuid() == 0:
            for path in (self.folder, *self.folder.rglob("*")):
                shutil.chown(path, self.user)

    def _run(self, stack: ExitStack, *command: str | Path, ready: str = "") -> None:
        """Run a program until `stack` ends; return once it listens on every port.

        `ready` is what its log says by then.
        """
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environ,
                cwd=self.folder,
            )
        stack.callback(stop_process, process)
        for port in self.ports.values():
            wait_for_port(process, port, self.log, ready=ready)

"""Share a portal's limits among all processes of one host: the rate limit and the working time, in small locked files.

The files lie in a folder of this user alone. Nothing in here stops a request: where there is no such folder, or the
lock cannot be had, every slot is free, and the portal's own refusals (503, 429) are reacted to.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import random
import stat
import struct
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from airflow_provider_bitrix24.api.io import Slot
from airflow_provider_bitrix24.api.pacing import Bucket, reserve
from airflow_provider_bitrix24.api.working_time import from_text, learn, to_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_bitrix24.api.io import Reserve
    from airflow_provider_bitrix24.api.pacing import Limits
    from airflow_provider_bitrix24.api.settings import Settings
    from airflow_provider_bitrix24.api.working_time import WorkingTime

log = logging.getLogger(__name__)

LOCK_TIMEOUT: Final = 1.0
"""Seconds to wait for the lock, which is held for less than a millisecond unless its holder was stopped."""
_RECORD: Final = struct.Struct("<dd")
_LARGEST_FILE: Final = 1024 * 1024
"""Bytes: some hundred for each method."""
_PRIVATE: Final = 0o700
_warned: set[str] = set()


class HostPacer:
    """The bucket of one portal on this host.

    :param portal: the portal's name.
    :param limits: of the portal.
    :param folder: where the buckets are; by default `shared_folder`.
    :param clock: the same for all processes of the host; time that passes while the host sleeps may be missing.
    """

    def __init__(
        self,
        portal: str,
        limits: Limits,
        *,
        folder: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._folder = folder
        self._name = hashlib.sha256(portal.encode()).hexdigest()
        self._clock = clock

    def reserve(self, command: Reserve) -> Slot:
        """Book a slot in the file."""
        try:
            with _locked(self._name, self._folder) as file:
                bucket, slot = reserve(
                    _load(file), self._limits, self._clock(), within=command.within, drained=command.drained
                )
                os.pwrite(file, _RECORD.pack(bucket.backlog, bucket.at), 0)
                return slot
        except OSError as error:
            _warn_once(error)
            return Slot(0.0)


class HostWorkingTime:
    """What all tasks of this host know of the working time of one credential.

    :param settings: the connection; the file is named by a digest of portal and credential.
    :param folder: where the files are; by default `shared_folder`.
    """

    def __init__(self, settings: Settings, *, folder: Path | None = None) -> None:
        self._name = f"{credential_of(settings)}.json"
        self._folder = folder

    def share(self, working_time: WorkingTime) -> None:
        """Add what was learned here, and take over what is known in all."""
        try:
            with _locked(self._name, self._folder, create=bool(working_time.unshared)) as file:
                clock_offset, known = from_text(os.pread(file, _LARGEST_FILE, 0))
                if working_time.known_clock_offset is None:
                    working_time.known_clock_offset = clock_offset
                usages = learn(known, working_time.unshared)
                if working_time.unshared:
                    os.ftruncate(file, 0)
                    os.pwrite(file, to_text(working_time.known_clock_offset, usages).encode(), 0)
        except FileNotFoundError:
            return  # nothing is known yet
        except OSError as error:
            _warn_once(error)
        else:
            working_time.usages = usages
        working_time.unshared.clear()


def credential_of(settings: Settings) -> str:
    """Return a name for the portal and the credential of a connection that does not tell the secret."""
    application = settings.application
    credential = settings.auth.path("") if application is None else application.client_id
    return hashlib.sha256(f"working time\n{settings.portal}\n{credential}".encode()).hexdigest()[:32]


@contextlib.contextmanager
def _locked(name: str, folder: Path | None, *, create: bool = True) -> Iterator[int]:
    """A file of the folder, opened where no other user can have put anything, and locked."""
    inside = _open_folder(folder or shared_folder())
    try:
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        file = os.open(name, flags, 0o600, dir_fd=inside)
    finally:
        os.close(inside)
    try:
        _lock(file)
        try:
            yield file
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # a child that was forked meanwhile has the same open file
    finally:
        os.close(file)


def shared_folder() -> Path:
    """Return the folder of this user's buckets."""
    return Path(tempfile.gettempdir()) / f"airflow-provider-bitrix24-{os.geteuid()}"


def _open_folder(path: Path) -> int:
    """Open the folder, and create it if it is missing.

    :raises OSError: it cannot be used, or is not this user's alone.
    """
    with contextlib.suppress(FileExistsError):
        path.mkdir(_PRIVATE)
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    state = os.fstat(folder)
    if state.st_uid == os.geteuid() and stat.S_IMODE(state.st_mode) == _PRIVATE:
        return folder
    os.close(folder)
    raise OSError("it is not a folder of this user alone (mode 0700)")


def _lock(file: int) -> None:
    """Take the lock.

    :raises OSError: somebody has held it for too long.
    """
    until = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
            time.sleep(random.uniform(0.0005, 0.005))  # noqa: S311 - nothing secret
        else:
            return


def _load(file: int) -> Bucket:
    """Read the bucket from the file; a new file is an empty bucket."""
    record = os.pread(file, _RECORD.size, 0)
    return Bucket(*_RECORD.unpack(record)) if len(record) == _RECORD.size else Bucket()


def _warn_once(error: OSError) -> None:
    """Log once in each process what is wrong; requests are still sent."""
    reason = error.strerror or str(error)
    if reason not in _warned:
        _warned.add(reason)
        log.warning(
            "Requests to Bitrix24 are not paced on this host: the folder airflow-provider-bitrix24-%s among the "
            "temporary files cannot be used (%s). They are still sent; what the portal refuses for its rate "
            "limit is sent again later. Delete that folder or make it writable, or set the extra rate_limit to off.",
            os.geteuid(),
            reason,
        )

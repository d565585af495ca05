"""Folders and buckets alike: files that appear whole under a name, and locks between processes.

A file store holds what many processes write without knowing of each other. It needs nothing of the
place but that a name appears at once with all of its bytes: a rename in a folder, the end of an
upload in an object store.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from geohr._runtime.files import as_output_error, written_whole
from geohr._runtime.locks import locked
from geohr._runtime.redact import redact
from geohr._runtime.stores import as_store_error, is_object, open_store
from geohr.errors import LockedError

# The seconds between two signs of life of whoever holds a lock in a bucket.
BEAT_SECONDS = 5.0
# The seconds without a sign of life after which a lock in a bucket is taken over.
DEAD_SECONDS = 30.0
# The folder of locks.
LOCKS = "locks"


class FileStore(Protocol):
    """A folder or a bucket; names are relative, with `/` between their parts."""

    def address(self, name: str) -> str:
        """The path or address of a file."""

    def put(self, name: str, content: bytes | Path) -> None:
        """Write a file, which appears when it is whole, over one of the same name.

        Raises:
            OutputError: When it cannot be written; what was there before is then untouched.
        """

    def read(self, name: str) -> bytes | None:
        """The content of a file, or None where there is none.

        Raises:
            OutputError: When it cannot be read.
        """

    def sizes(self, folder: str) -> dict[str, int]:
        """The names of all files in a folder, sorted, with their bytes.

        Raises:
            OutputError: When they cannot be listed.
        """

    def delete(self, name: str) -> None:
        """Remove a file, if it is there.

        Raises:
            OutputError: When it cannot be removed.
        """

    def fetch(self, name: str, target: Path) -> None:
        """Copy a file to a path; without a copy where both can be one.

        Raises:
            OutputError: When it cannot be read or written.
        """

    def locked(self, name: str, *, what: str) -> Any:
        """Hold a lock for as long as a block runs; the lock of a process that is gone counts not.

        Raises:
            LockedError: When another process holds it.
            OutputError: When it cannot be asked for.
        """


def open_file_store(root: str | Path) -> FileStore:
    """The file store at a path or at an address in an object store.

    Raises:
        UsageError: When obstore is not installed, or the address has no bucket.
    """
    if is_object(root):
        return BucketStore(str(root))
    return FolderStore(Path(root))


class FolderStore:
    """A folder, made where it is missing."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def address(self, name: str) -> str:
        """The path of a file."""
        return str(self.root / name)

    def put(self, name: str, content: bytes | Path) -> None:
        """Write a file; see `FileStore.put`."""
        path = self._made(name)
        with written_whole(path) as part:
            if isinstance(content, bytes):
                part.write_bytes(content)
            else:
                shutil.copyfile(content, part)

    def read(self, name: str) -> bytes | None:
        """The content of a file; see `FileStore.read`."""
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise as_output_error(error, self.root / name) from error

    def sizes(self, folder: str) -> dict[str, int]:
        """The names of all files in a folder; see `FileStore.sizes`."""
        try:
            found = {
                path.relative_to(self.root).as_posix(): path.stat().st_size
                for path in (self.root / folder).rglob("*")
                if path.is_file() and not path.name.startswith(".")
            }
        except OSError as error:
            raise as_output_error(error, self.root / folder) from error
        return dict(sorted(found.items()))

    def delete(self, name: str) -> None:
        """Remove a file; see `FileStore.delete`."""
        try:
            (self.root / name).unlink(missing_ok=True)
        except OSError as error:
            raise as_output_error(error, self.root / name) from error

    def fetch(self, name: str, target: Path) -> None:
        """Link or copy a file; see `FileStore.fetch`."""
        source = self.root / name
        part = target.with_name(f".{target.name}.{uuid4().hex[:8]}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                part.hardlink_to(source)
            except OSError:
                shutil.copyfile(source, part)
            part.replace(target)
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            raise as_output_error(error, target) from error

    @contextmanager
    def locked(self, name: str, *, what: str) -> Iterator[None]:
        """Hold a lock file, which the system frees with the process; see `FileStore.locked`."""
        with locked(self.root / LOCKS / name, what=what):
            yield

    def _made(self, name: str) -> Path:
        """The path of a file in a folder that is there."""
        path = self.root / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise as_output_error(error, path) from error
        return path


class BucketStore:
    """A part of a bucket, by the beginning of its keys.

    Args:
        root: Its address, such as `s3://bucket/country`.

    Raises:
        UsageError: When obstore is not installed, or the address has no bucket.
    """

    def __init__(self, root: str) -> None:
        self._root = root.rstrip("/")
        self._store, key = open_store(f"{self._root}/-")
        self._prefix = key[:-1]

    def address(self, name: str) -> str:
        """The address of an object."""
        return f"{self._root}/{name}"

    def put(self, name: str, content: bytes | Path) -> None:
        """Upload a file, in parts where it is large; see `FileStore.put`."""
        with self._as_errors(name):
            self._store.put(self._prefix + name, content)

    def read(self, name: str) -> bytes | None:
        """The content of an object; see `FileStore.read`."""
        with self._as_errors(name):
            try:
                return bytes(self._store.get(self._prefix + name).bytes())
            except FileNotFoundError:
                return None

    def sizes(self, folder: str) -> dict[str, int]:
        """The names of all objects in a folder; see `FileStore.sizes`."""
        with self._as_errors(folder):
            found = {
                each["path"].removeprefix(self._prefix): int(each["size"])
                for part in self._store.list(f"{self._prefix}{folder}")
                for each in part
            }
        return dict(sorted(found.items()))

    def delete(self, name: str) -> None:
        """Remove an object; see `FileStore.delete`."""
        with self._as_errors(name), suppress(FileNotFoundError):
            self._store.delete(self._prefix + name)

    def fetch(self, name: str, target: Path) -> None:
        """Download an object; see `FileStore.fetch`."""
        content = self.read(name)
        if content is None:
            raise as_store_error(FileNotFoundError("no such object"), self.address(name))
        FolderStore(target.parent).put(target.name, content)

    @contextmanager
    def locked(self, name: str, *, what: str) -> Iterator[None]:
        """Hold an object that names its holder and changes meanwhile; see `FileStore.locked`.

        Whoever finds one watches it: one that does not change for `DEAD_SECONDS`, by the watch of
        who looks, belongs to a process that is gone. So does one of this machine whose process
        there is not.
        """
        key = f"{LOCKS}/{name}"
        holder = {"host": socket.gethostname(), "process": os.getpid(), "run": uuid4().hex}
        while not self._create(key, holder):
            self._take_over(key, what)
        over = threading.Event()
        beat = threading.Thread(target=self._beat, args=(key, holder, over), daemon=True)
        beat.start()
        try:
            yield
        finally:
            over.set()
            beat.join()
            self.delete(key)

    def _create(self, key: str, holder: dict[str, Any]) -> bool:
        """Make the object of a lock, unless it is there."""
        from obstore.exceptions import AlreadyExistsError

        with self._as_errors(key):
            try:
                content = json.dumps({**holder, "beat": 0}).encode()
                self._store.put(self._prefix + key, content, mode="create")
            except AlreadyExistsError:
                return False
        return True

    def _take_over(self, key: str, what: str) -> None:
        """Remove a lock whose holder is gone.

        Raises:
            LockedError: When its holder is not.
        """
        found = self.read(key)
        deadline = time.monotonic() + DEAD_SECONDS
        while found is not None and not _is_gone(found):
            if time.monotonic() > deadline:
                break
            time.sleep(min(BEAT_SECONDS, DEAD_SECONDS) / 2)
            after = self.read(key)
            if after is not None and after != found:
                holder = json.loads(after)
                raise LockedError(
                    f"{what}: process {holder['process']} on {holder['host']} is working on it; "
                    "wait until it has ended"
                )
            found = after
        self.delete(key)

    def _beat(self, key: str, holder: dict[str, Any], over: threading.Event) -> None:
        """Change the object of a lock until the run is over."""
        count = 0
        while not over.wait(BEAT_SECONDS):
            count += 1
            with suppress(Exception):
                self.put(key, json.dumps({**holder, "beat": count}).encode())

    @contextmanager
    def _as_errors(self, name: str) -> Iterator[None]:
        """Turn errors of the store into errors that say what to do."""
        try:
            yield
        except Exception as error:
            raise as_store_error(error, redact(self.address(name))) from error


def _is_gone(content: bytes) -> bool:
    """Whether a lock's holder was a process of this machine that is no more."""
    holder = json.loads(content)
    if holder["host"] != socket.gethostname():
        return False
    try:
        os.kill(holder["process"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False

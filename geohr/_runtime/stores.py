"""Object stores: who asks and where, whether an object has changed, and outputs that appear whole.

Scenes are read by GDAL and outputs are written by obstore. Both look into the environment
themselves; what one of them knows under another name, or not at all, is translated here, once.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from geohr._runtime.files import STYLE_MARK, STYLE_SUFFIXES
from geohr._runtime.redact import redact
from geohr.errors import OutputError, UsageError

# Kinds of addresses that lead to an object store.
KINDS = ("s3", "gs", "az")
# Folder, below the working folder, of outputs that are to be delivered.
STAGE = ".geohr-delivery"
# The advice for a store that refuses access, by the scheme of its URLs.
CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_NO_SIGN_REQUEST=YES for a "
    "public bucket",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or GS_NO_SIGN_REQUEST=YES for a public bucket",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or a SAS token, or "
    "AZURE_NO_SIGN_REQUEST=YES for a public container",
}
# How often a request is made again that failed, each time after a longer wait.
RETRIES = 10
# S3 copies no larger object in one request.
COPY_BYTES_MAX = 5_000_000_000
# GDAL's variables for a public bucket.
NO_SIGN = {"s3": "AWS_NO_SIGN_REQUEST", "gs": "GS_NO_SIGN_REQUEST", "az": "AZURE_NO_SIGN_REQUEST"}
# The variable of Google's own tools for an emulator, which asks for no credentials.
EMULATOR = "STORAGE_EMULATOR_HOST"
CONNECTION = "AZURE_STORAGE_CONNECTION_STRING"
# Entries of Azure's connection string, which GDAL reads, and obstore's names for them.
CONNECTION_PARTS = {
    "AccountName": "account_name",
    "AccountKey": "account_key",
    "SharedAccessSignature": "sas_key",
    "BlobEndpoint": "endpoint",
}
# GDAL's variables, and those of obstore that say the same.
AZURE_NAMES = {
    "AZURE_STORAGE_ACCOUNT": "AZURE_STORAGE_ACCOUNT_NAME",
    "AZURE_STORAGE_ACCESS_KEY": "AZURE_STORAGE_ACCOUNT_KEY",
}
_VSI = re.compile(r"/vsi(s3|gs|az)(?:_streaming)?/(.+)")


def object_address(name: str) -> str | None:
    """The address of an object: as it is, or out of one of GDAL's names; None for all else."""
    if name.partition("://")[0] in KINDS:
        return name
    found = _VSI.search(name)
    return None if found is None else f"{found[1]}://{found[2]}"


def is_object(name: str | Path) -> bool:
    """Whether an output goes to an object store."""
    return str(name).partition("://")[0] in KINDS


def store_options(kind: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """Options of `s3`, `gs` or `az` in obstore that it does not find in the environment itself."""
    # Whether a server is asked without TLS is said by its address.
    options: dict[str, Any] = {
        "client_options": {"allow_http": True},
        "retry_config": {"max_retries": RETRIES},
    }
    if environment.get(NO_SIGN[kind], "").upper() in ("YES", "TRUE", "ON", "1"):
        options["skip_signature"] = True
    if kind == "gs" and EMULATOR in environment:
        # Leaving out signatures would do for reading alone.
        nobody = {"gcs_base_url": emulator_address(environment), "disable_oauth": True}
        nobody |= dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
        options["service_account_key"] = json.dumps(nobody)
    if kind == "az" and CONNECTION in environment:
        for part in environment[CONNECTION].split(";"):
            name, _, value = part.strip().partition("=")
            if name in CONNECTION_PARTS:
                options[CONNECTION_PARTS[name]] = value.rstrip("/")
    return options


def gdal_options(environment: Mapping[str, str]) -> dict[str, str]:
    """Options of GDAL's that its own look at the environment does not find."""
    found: dict[str, str] = {}
    if "AWS_ENDPOINT_URL" in environment:
        server = urlsplit(environment["AWS_ENDPOINT_URL"])
        found["AWS_S3_ENDPOINT"] = server.netloc
        found["AWS_HTTPS"] = "YES" if server.scheme == "https" else "NO"
        found["AWS_VIRTUAL_HOSTING"] = "FALSE"
    if EMULATOR in environment:
        found["CPL_GS_ENDPOINT"] = f"{emulator_address(environment)}/"
        found["GS_NO_SIGN_REQUEST"] = "YES"
    found |= {name: environment[own] for name, own in AZURE_NAMES.items() if own in environment}
    return {name: value for name, value in found.items() if name not in environment}


def emulator_address(environment: Mapping[str, str]) -> str:
    """The URL of the emulator of Google's store, which is given with or without http://."""
    host = environment[EMULATOR].rstrip("/")
    return host if "://" in host else f"http://{host}"


def open_store(address: str) -> tuple[Any, str]:
    """The store of an address, and the object's key in it; a file on a web server is a store.

    Credentials come from the environment, under the names that the store's own tools use.

    Raises:
        UsageError: When obstore is not installed, or the address names no object.
    """
    try:
        from obstore.store import from_url
    except ImportError as error:
        raise UsageError(
            f"{redact(address)}: object stores need obstore; pip install 'geohr[cloud]'"
        ) from error
    kind, _, rest = address.partition("://")
    if kind in ("http", "https"):
        return from_url(address, client_options={"allow_http": True}), ""
    bucket, _, key = rest.partition("/")
    if not bucket or not key or key.endswith("/"):
        raise UsageError(f"{redact(address)}: name an object, such as {kind}://bucket/file.gpkg")
    return from_url(f"{kind}://{bucket}", **store_options(kind, os.environ)), key


def state_of(address: str) -> tuple[object, ...]:
    """Entity tag, time and size of an object; a fresh token where they cannot be asked for."""
    try:
        store, key = open_store(address)
        told = store.head(key)
    except Exception:  # the library raises its own kinds, all of which mean the same here
        return (uuid4().hex,)
    return (told["e_tag"], told["last_modified"].isoformat(), told["size"])


@contextmanager
def delivered(
    outputs: Sequence[str | Path], *, overwrite: bool, work_dir: Path | None = None
) -> Iterator[dict[str, Path]]:
    """Local names for outputs; those of object stores are uploaded when the block ends.

    They are uploaded under names of no meaning and get their own when all are there: each
    appears whole, and none without the others. After an error nothing is in the store.

    Args:
        outputs: Paths, and addresses in object stores.
        overwrite: Replace objects that exist.
        work_dir: The folder of the files until then; by default the current folder.

    Raises:
        UsageError: When an object exists, or obstore is not installed.
        OutputError: When the store cannot be written.
    """
    addresses = [str(each) for each in outputs if is_object(each)]
    for address in addresses:
        check_absent(address, overwrite=overwrite)
    digest = hashlib.sha256("\0".join(addresses).encode()).hexdigest()[:16]
    folder = (work_dir or Path()) / STAGE / digest
    local = {str(each): Path(each) for each in outputs}
    for number, address in enumerate(addresses):
        local[address] = folder / str(number) / address.rpartition("/")[2]
    try:
        for address in addresses:
            local[address].parent.mkdir(parents=True, exist_ok=True)
            # What an upload that failed has left; finished blocks are in a folder and stay.
            for each in local[address].parent.iterdir():
                if each.is_file():
                    each.unlink()
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror})") from error
    yield local
    deliver({address: local[address] for address in addresses})
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        folder.parent.rmdir()


def check_absent(address: str, *, overwrite: bool) -> None:
    """Refuse an object that exists, or a store that cannot be asked.

    Raises:
        UsageError: When it exists and `overwrite` is not set.
        OutputError: When the store does not answer, or refuses to.
    """
    store, key = open_store(address)
    try:
        found = exists(store, key)
    except Exception as error:
        raise as_store_error(error, address) from error
    if found and not overwrite:
        raise UsageError(f"{redact(address)}: exists; choose another name or pass --overwrite")


@dataclass(frozen=True)
class Delivery:
    """A file on its way into a store.

    Attributes:
        address: The URL of the output that it belongs to.
        store: The store.
        path: The file.
        staged: The key that it is uploaded under.
        key: The key that it gets.
    """

    address: str
    store: Any
    path: Path
    staged: str
    key: str

    def publish(self) -> None:
        """Give the uploaded file its name."""
        if self.path.stat().st_size <= COPY_BYTES_MAX:
            self.store.copy(self.staged, self.key)
        else:  # an upload in parts appears whole, too
            self.store.put(self.key, self.path)


def deliver(files: Mapping[str, Path]) -> None:
    """Upload files, with what belongs to them, and then give them their names.

    Args:
        files: By address; a Shapefile's companions and styles go with them.

    Raises:
        OutputError: When the store cannot be written; the files stay where they are, and objects
            that are new are taken back.
    """
    address = ""
    planned: list[Delivery] = []
    published: list[Delivery] = []
    try:
        for address, path in files.items():
            for each in deliveries(address, path):
                if is_kept(each.store, each.key):
                    continue
                planned.append(each)
                each.store.put(each.staged, each.path)
        for each in planned:
            address = each.address
            fresh = not exists(each.store, each.key)
            each.publish()
            published += [each] * fresh
    except Exception as error:
        for each in published:
            with suppress(Exception):
                each.store.delete(each.key)
        where = ", ".join(str(path) for path in files.values())
        raise as_store_error(error, address, note=f"; what was made is kept in {where}") from error
    finally:
        for each in planned:
            with suppress(Exception):
                each.store.delete(each.staged)


def exists(store: Any, key: str) -> bool:
    """Whether there is an object of that key."""
    try:
        store.head(key)
    except FileNotFoundError:
        return False
    return True


def is_kept(store: Any, key: str) -> bool:
    """Whether an object is a style that somebody else made; see `is_kept_style`."""
    if not key.endswith(STYLE_SUFFIXES) or not exists(store, key):
        return False
    return STYLE_MARK.encode() not in bytes(store.get(key).bytes())


def deliveries(address: str, path: Path) -> list[Delivery]:
    """A file and its companions; it comes last, so that whoever sees it finds them."""
    store, key = open_store(address)
    folder = key[: key.rfind("/") + 1]
    stage = f"{folder}{STAGE}-{uuid4().hex[:12]}/"
    parts = [each for each in path.parent.glob(f"{glob.escape(path.stem)}.*") if each.is_file()]
    parts.sort(key=lambda each: (each == path, each.name))
    return [Delivery(address, store, each, stage + each.name, folder + each.name) for each in parts]


def as_store_error(error: Exception, address: str, *, note: str = "") -> OutputError:
    """An error of a store, with what to do about it."""
    if isinstance(error, OutputError):
        return error
    # What follows is the library's own state, which tells a user nothing.
    told = " ".join(str(error).partition("Debug source")[0].split())
    denied = any(word in told for word in ("redential", "403", "401", "AccessDenied", "metadata"))
    advice = f"; {CREDENTIALS[address.partition('://')[0]]}" if denied else ""
    return OutputError(f"{redact(address)}: the store cannot be written ({told}){advice}{note}")

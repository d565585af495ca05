"""Files on the Hugging Face hub, or on the mirror that HF_ENDPOINT names.

The hub's own client does the work: it keeps what it fetched, goes on where a download broke off,
and gives a file its name in the cache only when it is whole.
"""

from __future__ import annotations

import hashlib
import re
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from geohr._runtime.messages import first_line
from geohr.errors import InputError, OutputError, UsageError

SCHEME = "hf://"
ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+?)(?:@([\w./-]+?))?(?:/(.+))?")
# The names of weights in a repository, in the order in which they are tried.
WEIGHTS = ("model.safetensors", "pytorch_model.bin", "model.pth", "model.onnx")
# The seconds that the hub may take to answer, before only the cache is used.
CONNECT_SECONDS = 5.0
LICENCE = re.compile(r"^license:\s*(\S+)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class HubAddress:
    """A repository on the hub, or a file in it.

    Attributes:
        repo: Owner and name.
        revision: Branch, tag or commit.
        file: The path in the repository, or None to try those of `WEIGHTS`.
    """

    repo: str
    revision: str = "main"
    file: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubAddress:
        """The address in `hf://owner/name`, `hf://owner/name@revision` or with `/file` behind.

        Raises:
            UsageError: When it is no such address.
        """
        found = ADDRESS.fullmatch(text)
        if found is None:
            raise UsageError(f"{text}: a model on the hub is written hf://owner/name[@revision]")
        repo, revision, file = found.groups()
        return cls(repo, revision or "main", file)

    def fetch(self, file: str | None = None) -> Path:
        """The file on this machine, fetched where it is not there yet.

        Args:
            file: Another file of the repository.

        Raises:
            InputError: When hub, repository or file cannot be reached, or what came is not what
                the hub announced.
        """
        names = (file or self.file,) if file or self.file else WEIGHTS
        for name in names:
            path = self._fetch(str(name), needed=name == names[-1])
            if path is not None:
                return path
        raise AssertionError("the last name raises where it is missing")

    def optional(self, file: str) -> Path | None:
        """A file that the repository may lack."""
        return self._fetch(file, needed=False)

    def licence(self) -> str:
        """The licence in the README of a repository, or an empty text."""
        readme = self.optional("README.md")
        found = LICENCE.search(readme.read_text("utf-8", "replace")) if readme else None
        return found.group(1) if found else ""

    def _fetch(self, name: str, *, needed: bool) -> Path | None:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import (
            EntryNotFoundError,
            HFValidationError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()
        where = f"{SCHEME}{self.repo}"
        try:
            # The client retries an address that does not answer for half a minute, file by file.
            offline = not reachable()
            return Path(
                hf_hub_download(self.repo, name, revision=self.revision, local_files_only=offline)
            )
        except RepositoryNotFoundError as error:
            raise InputError(
                f"{where}: no such repository, or one that needs a token (HF_TOKEN)"
            ) from error
        except RevisionNotFoundError as error:
            raise InputError(f"{where}: has no revision {self.revision}") from error
        except LocalEntryNotFoundError as error:
            if not needed:
                return None
            raise InputError(
                f"{where}: the hub cannot be reached, and {name} was not fetched before; name a "
                "mirror with HF_ENDPOINT, or a file on this machine"
            ) from error
        except EntryNotFoundError as error:
            if not needed:
                return None
            raise InputError(f"{where}: has no file {name}; name one as {where}/FILE") from error
        except (OSError, HFValidationError, RuntimeError) as error:
            raise InputError(
                f"{where}: {name} cannot be fetched ({first_line(error)}); run it again to go on"
            ) from error


@cache
def reachable() -> bool:
    """Whether the hub's machine, or a proxy that leads there, answers at all."""
    from huggingface_hub import constants

    if any(getproxies().values()):
        return True
    address = urlsplit(constants.ENDPOINT)
    port = address.port or {"http": 80}.get(address.scheme, 443)
    try:
        socket.create_connection((address.hostname, port), CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def digest_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def push(folder: Path, address: HubAddress) -> str:
    """Send a folder's files to a repository in one commit, and say where to look at it.

    The repository is made where it is missing.

    Raises:
        OutputError: When the hub refuses it or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    api = HfApi()
    try:
        api.create_repo(address.repo, repo_type="model", exist_ok=True)
        done = api.upload_folder(
            repo_id=address.repo,
            folder_path=folder,
            revision=address.revision,
            commit_message="Model written by geohr",
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise OutputError(
            f"{SCHEME}{address.repo}: cannot be pushed ({first_line(error)}); log in with "
            "`hf auth login` or set HF_TOKEN"
        ) from error
    return str(done)

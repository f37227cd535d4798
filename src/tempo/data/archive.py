"""Official archives on disk: downloaded if missing, verified before anything reads them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from torchvision.datasets import CIFAR10, CIFAR100, EMNIST, KMNIST, MNIST, SVHN, FashionMNIST
from torchvision.datasets.utils import download_url

from tempo.errors import UserError

IsWhole = Callable[[bytes], bool]
"""Whether content that is not the published one is an undamaged file of the same format.

It must not take more memory than the content, which may come from anybody.
"""
# A network that drops packets must not block the start for ever.
_STALL_SECONDS = 30.0
MOST_BYTES = 1 << 30
"""Five times the largest archive: a larger file is another one, and is not read into memory to find out."""


def verified_bytes(path: Path, md5: str, name: str, is_whole: IsWhole) -> bytes:
    """Return a file's content; UserError if it cannot be read or does not have the published MD5."""
    return check(read_bytes(path), md5, path, name, is_whole)


def read_bytes(path: Path) -> bytes:
    """Return a file's content; UserError if it is not a file, is too large or cannot be read."""
    try:
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            raise corrupt(path, f"it is not a file of at most {MOST_BYTES >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions") from error


def check(content: bytes, md5: str, path: Path, name: str, is_whole: IsWhole) -> bytes:
    """Return `content`, read from `path`, if it has the published MD5 of `name`; UserError otherwise.

    `is_whole` tells a file of another data set from a damaged one, which alone should be deleted.
    """
    found = md5_of(content)
    if found != md5:
        raise not_published(path, found, md5, name, is_whole=is_whole(content))
    return content


def md5_of(content: bytes) -> str:
    """Return the MD5 of some bytes in hexadecimal digits."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def md5_of_file(path: Path) -> str:
    """Return the MD5 of a file without holding it in memory; UserError if it cannot be read."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            raise corrupt(path, f"it is not a file of at most {MOST_BYTES >> 20} MiB")
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    return digest.hexdigest()


def not_published(path: Path, found: str, md5: str, name: str, *, is_whole: bool) -> UserError:
    """Return the error for a file with another MD5 than the published one of data set `name`."""
    if not is_whole:
        return corrupt(path, f"its checksum is not the published {md5}")
    owner = _published().get(found)
    if owner is not None and owner != name:
        return UserError(
            f"{path} is a file of {owner}, not of {name}; use data={owner}, or point data.root or TEMPO_DATA "
            f"to a folder with the files of {name}"
        )
    return UserError(
        f"{path} is a whole file, but not the one published as {name} (MD5 {found}, not {md5}): it is of "
        "another data set, or was changed; move it away to download the published file at the next start "
        f"(data.download=true), or point data.root or TEMPO_DATA to a folder with the files of {name}"
    )


def _published() -> dict[str, str]:
    """Return the MD5 of the published files -> option of conf/data."""
    of_mnist = {"mnist": MNIST, "fashion_mnist": FashionMNIST, "kmnist": KMNIST}
    found = {md5: name for name, source in of_mnist.items() for _, md5 in source.resources}
    found |= {md5: "svhn" for _, _, md5 in SVHN.split_list.values()}
    return found | {EMNIST.md5: "emnist", CIFAR10.tgz_md5: "cifar10", CIFAR100.tgz_md5: "cifar100"}


def corrupt(path: Path, reason: str) -> UserError:
    """Return the error for a file whose content is wrong."""
    return UserError(
        f"{path} is truncated or corrupt ({reason}); delete it to download it again at the "
        "next start (data.download=true), or copy an intact file there"
    )


def fetch(path: Path, md5: str, urls: Sequence[str], *, download: bool, name: str, root: Path) -> None:
    """Download `path` from the first of `urls` that has it; it appears complete and verified or not at all.

    Raises:
        UserError: `download` is false, no address could be read, or `root` cannot be written.
    """
    reason = "data.download=false"
    made = [folder for folder in path.parents if not folder.exists()]
    if download:
        # Two processes may download at once: each writes its own file, and the last one renamed stays.
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        for url in urls:
            try:
                _download(url, partial, md5)
                partial.replace(path)
                return
            except (OSError, RuntimeError) as error:  # URLError and timeouts are OSErrors
                reason = f"the download failed: {error}"
            finally:
                partial.unlink(missing_ok=True)
        # Leave no folders of a misspelt root behind; another process may be using them by now.
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()
    raise UserError(
        f"{name} is not in {root}: {path.relative_to(root)} is missing, and {reason}; put the official file "
        "there, point TEMPO_DATA or data.root to a folder that has it, or use data=digits (no network)"
    )


def _download(url: str, partial: Path, md5: str) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_STALL_SECONDS)
    try:
        download_url(url, str(partial.parent), filename=partial.name, md5=md5)
    finally:
        socket.setdefaulttimeout(before)

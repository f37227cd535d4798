"""One checkpoint file: written whole, and read only where it still is."""

from __future__ import annotations

import hashlib
import os
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

import torch
from pytorch_lightning.plugins.io import CheckpointIO

from tempo.errors import UserError

_SEAL = b"SHA-256 "
_SEAL_BYTES = len(_SEAL) + 64
_PIECE = 1 << 20


class CheckpointFiles(CheckpointIO):
    """Writes and reads for Lightning, whose own way goes through memory and a temporary folder."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write and flush to the disk; OSError naming the folder where there is no room."""
        path = Path(path)
        try:
            with path.open("w+b") as file:
                torch.save(checkpoint, file)
                _seal(file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:
            cause = error if isinstance(error, OSError) else error.__context__  # torch covers it up
            if not isinstance(cause, OSError):
                raise
            raise OSError(cause.errno, cause.strerror, str(path.parent)) from error

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """See `load`: plain values, whatever is asked for."""
        return load(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Remove the file where there is one."""
        Path(path).unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any]:
    """A checkpoint's content, plain values and tensors only: nothing in the file can run code.

    Raises:
        UserError: the file is missing, cut short, damaged in any bit that counts, or holds other than plain
            values.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist: the run has saved no such checkpoint")
    if not path.is_file():  # a pipe would be waited for
        raise UserError(f"{path} is no file: name a checkpoint of a run")
    try:
        if _is_sealed_otherwise(path):
            raise UserError(f"{path} is damaged (its SHA-256 is not the one it was written with)")
        if _is_compressed(path):
            raise UserError(f"{path} is no checkpoint of a run: it is compressed, as torch writes none")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other kinds of file: they are refused anyway
            content = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; check its permissions") from error
    except Exception as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is damaged or no checkpoint ({type(error).__name__})") from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise UserError(f"{path} is no checkpoint of a run: it has no state_dict")
    state = content["state_dict"]
    # A dict is what a network keeps beside its tensors (`get_extra_state`).
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor | dict) for name, value in state.items()
    ):
        raise UserError(f"{path} is no checkpoint of a run: its state_dict has other things than tensors")
    return content


def _seal(file: IO[bytes]) -> None:
    """Put the SHA-256 of what is before it into the comment that may end a zip file, which torch writes."""
    file.seek(-2, os.SEEK_END)  # the comment's length
    file.write(_SEAL_BYTES.to_bytes(2, "little"))
    digest = _sha256(file, file.tell())
    file.write(_SEAL + digest)


def _is_sealed_otherwise(path: Path) -> bool:
    """Whether a file has a seal that is not its own; torch itself would train on a flipped bit."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END) - _SEAL_BYTES
        if size < 0:
            return False
        file.seek(size)
        seal = file.read()
        return seal.startswith(_SEAL) and seal != _SEAL + _sha256(file, size)


def _is_compressed(path: Path) -> bool:
    """Whether a zip file would become larger than it is."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except zipfile.BadZipFile:
        return False  # torch says what it is
    return (
        any(each.compress_type != zipfile.ZIP_STORED for each in entries)
        or sum(each.file_size for each in entries) > path.stat().st_size
    )


def _sha256(file: IO[bytes], size: int) -> bytes:
    """Of the first `size` bytes, as hex digits; the file then stands behind them."""
    digest = hashlib.sha256()
    file.seek(0)
    for start in range(0, size, _PIECE):
        digest.update(file.read(min(_PIECE, size - start)))
    return digest.hexdigest().encode()


def link(source: Path, target: Path) -> None:
    """Make `target` a second name of `source`'s file, in one step."""
    beside = target.with_name(f".{target.name}.unfinished")
    beside.unlink(missing_ok=True)
    try:
        os.link(source, beside)
    except OSError:  # a file system without hard links
        beside.write_bytes(source.read_bytes())
        flush_to_disk(beside)
    beside.replace(target)


def flush_to_disk(path: Path) -> None:
    """Return when a file, or the names in a folder, would outlive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

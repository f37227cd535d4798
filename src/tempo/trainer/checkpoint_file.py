"""Write, seal and read checkpoint files; the seal is checked whenever a file is read."""

from __future__ import annotations

import contextlib
import hashlib
import os
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.plugins.io import CheckpointIO
from torch.serialization import get_unsafe_globals_in_checkpoint

from tempo.config.check import select
from tempo.distributed.fsdp2 import whole
from tempo.errors import UserError, nearest
from tempo.record.run_folder import BEST, LAST
from tempo.record.run_json import RunRecord

_SEAL = b"SHA-256 "
_SEAL_BYTES = len(_SEAL) + 64
_ZIP_END, _ZIP_END_BYTES = b"PK\x05\x06", 22
"""Signature and size of the last record of a zip file; its last two bytes are the length of the comment."""
_SEALED = "sealed"
"""Key of a checkpoint that has a seal, so that a file that lost its seal is noticed."""
_BLOCK_BYTES = 1 << 20
_AVERAGED, _TRAINED = "averaged.module.", "network."
"""Prefixes of a network's weights in a checkpoint."""


_HYPER_PARAMETERS = {
    LightningModule.CHECKPOINT_HYPER_PARAMS_KEY,
    LightningDataModule.CHECKPOINT_HYPER_PARAMS_KEY,
}
"""What `save_hyperparameters` of a module and of a data module adds to a checkpoint."""


class CheckpointFiles(CheckpointIO):
    """Lightning's reader and writer of checkpoints; it writes in place, without copies in memory."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a sealed file and flush it to the disk; OSError names the folder if the disk is full.

        Raises:
            UserError: the state has an object that could run code when it is read.
        """
        path = Path(path)
        for key in _HYPER_PARAMETERS & checkpoint.keys():
            named = checkpoint[key].items()
            checkpoint[key] = {name: value for name, value in named if _is_plain(value)}
        try:
            with path.open("w+b") as file:
                torch.save({**checkpoint, _SEALED: True}, file)
                file.flush()
                if foreign := get_unsafe_globals_in_checkpoint(path):
                    raise UserError(
                        f"a checkpoint holds tensors and plain values only, but the state to save has a "
                        f"{foreign[0]}; convert it where the module, its optimizer, its scheduler or its "
                        "data module saves it"
                    )
                _seal(file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:
            with contextlib.suppress(OSError):
                path.unlink()  # a disk that is full needs room for the record
            cause = error if isinstance(error, OSError) else error.__context__  # torch hides it
            if not isinstance(cause, OSError):
                raise
            raise OSError(cause.errno, cause.strerror, str(path.parent)) from error

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return the content; see `load`, which ignores the other arguments."""
        return load(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Remove the file if it exists."""
        Path(path).unlink(missing_ok=True)


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return type(value) is dict and all(_is_plain(part) for pair in value.items() for part in pair)
    if isinstance(value, (list, tuple)):
        return type(value) in (list, tuple) and all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str, torch.Tensor)


def load(path: Path) -> dict[str, Any]:
    """Return the content of a run's checkpoint; see `read_content`.

    Raises:
        UserError: the file is missing, truncated, damaged or not a checkpoint of a run.
    """
    content = read_content(path)
    state = content.get("state_dict") if isinstance(content, dict) else None
    # A network may also keep a dict (`get_extra_state`).
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor | dict) for name, value in state.items()
    ):
        raise UserError(f"{path} is not a checkpoint of a run: it has no state_dict of tensors")
    return dict(content)


def read_content(path: Path) -> Any:
    """Return what `torch.save` wrote: plain values and tensors only, so the file cannot run code.

    Raises:
        UserError: the file is missing, truncated, damaged or of another kind.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist: the run has saved no such checkpoint")
    if not path.is_file():  # reading a pipe would wait forever
        raise UserError(f"{path} is not a file; name a checkpoint of a run")
    if path.stat().st_size > _memory_bytes():  # a sparse file of any size takes no space on the disk
        raise UserError(f"{path} is larger than this machine's memory; name a checkpoint of a run")
    try:
        is_sealed = _has_seal(path)
        if _is_compressed(path):
            raise UserError(f"{path} is not a checkpoint of a run: it is compressed, which torch never does")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of file types that are refused anyway
            content = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(content, dict) and content.pop(_SEALED, False) and not is_sealed:
            raise UserError(f"{path} is damaged: the SHA-256 at its end is missing")
    except PermissionError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; check its permissions") from error
    except Exception as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is damaged or not a checkpoint ({type(error).__name__})") from error
    return content


def check_readable(states: dict[str, Any]) -> None:
    """Raise UserError if a callback's state is not plain, so that no checkpoint with it could be read."""
    for name, state in states.items():
        if (found := _not_plain(state)) is not None:
            raise UserError(
                f"the callback {name} saves a {type(found).__name__}, and a checkpoint is read without code; "
                "return numbers, text, lists, dicts or tensors from its state_dict, or leave it out"
            )


def _not_plain(state: Any) -> Any:
    """Return a part of a callback's state that is neither plain nor a tensor; None if there is none."""
    if isinstance(state, dict):
        parts: list[Any] = [*state, *state.values()]
    elif isinstance(state, (list, tuple)):
        parts = list(state)
    else:
        return None if isinstance(state, (int, float, str, torch.Tensor, type(None))) else state
    found = (_not_plain(part) for part in parts)
    return next((part for part in found if part is not None), None)


def _seal(file: IO[bytes]) -> None:
    """Append the SHA-256 of everything before it as the zip file's comment, which readers ignore."""
    file.seek(-2, os.SEEK_END)  # the last two bytes are the comment's length, so far 0
    file.write(_SEAL_BYTES.to_bytes(2, "little"))
    digest = _sha256(file, file.tell())
    file.write(_SEAL + digest)


def _has_seal(path: Path) -> bool:
    """Whether a file has a seal; torch would silently load some flipped bits, and a file without its end.

    A file without a seal ends with a zip file's last record, which announces no comment. A file that is not a
    zip file has none either; torch refuses it.

    Raises:
        UserError: the seal is damaged, cut, or does not match the content.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _ZIP_END_BYTES - _SEAL_BYTES))
        end = file.read()
        content, seal = end[:-_SEAL_BYTES], end[-_SEAL_BYTES:]
        if seal.startswith(_SEAL) and content.endswith(_SEAL_BYTES.to_bytes(2, "little")):
            if seal != _SEAL + _sha256(file, size - _SEAL_BYTES):
                raise UserError(f"{path} is damaged: its SHA-256 does not match the one stored in it")
            return True
    ends_without_comment = end[-_ZIP_END_BYTES:].startswith(_ZIP_END) and end.endswith(b"\0\0")
    if (_ZIP_END in end or _SEAL in end) and not ends_without_comment:
        raise UserError(f"{path} is damaged: the SHA-256 at its end is incomplete")
    return False


def _memory_bytes() -> float:
    """Return the size of this machine's memory; infinity if the system does not tell it."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return float("inf")


def _is_compressed(path: Path) -> bool:
    """Whether the content would take more memory than the file takes on the disk."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except zipfile.BadZipFile:
        return False  # torch.load reports the reason
    return (
        any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
        or sum(entry.file_size for entry in entries) > path.stat().st_size
    )


def _sha256(file: IO[bytes], size: int) -> bytes:
    """Return the hex digest of the first `size` bytes, and leave the file positioned after them."""
    digest = hashlib.sha256()
    file.seek(0)
    for start in range(0, size, _BLOCK_BYTES):
        digest.update(file.read(min(_BLOCK_BYTES, size - start)))
    return digest.hexdigest().encode()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hex digits."""
    with path.open("rb") as file:
        return _sha256(file, file.seek(0, os.SEEK_END)).decode()


def link(source: Path, target: Path) -> None:
    """Make `target` a second name of the file `source`, atomically."""
    unfinished = target.with_name(f".{target.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    try:
        os.link(source, unfinished)
    except OSError:  # the file system has no hard links
        try:
            unfinished.write_bytes(source.read_bytes())
            flush_to_disk(unfinished)
        except OSError:
            unfinished.unlink(missing_ok=True)  # the disk is full
            raise
    unfinished.replace(target)


def flush_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, would survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def tested_checkpoint(folder: Path, record: RunRecord) -> Path:
    """Return the checkpoint that the test of a finished run evaluated."""
    best = folder / "checkpoints" / BEST
    chosen = select(record.config, "checkpoint").get("select", "best")
    try:
        return best if chosen == "best" and best.exists() else best.with_name(LAST)
    except PermissionError as error:
        raise UserError(f"{best.parent} cannot be read: {error.strerror}; check its permissions") from error


def named_checkpoint(folder: Path, checkpoint: str, record: RunRecord) -> Path:
    """Return the checkpoint of a run that a user names: tested, best, last, or a file.

    Raises:
        UserError: it is none of these.
    """
    if checkpoint == "tested":
        return tested_checkpoint(folder, record)
    if checkpoint in ("best", "last"):
        return folder / "checkpoints" / f"{checkpoint}.ckpt"
    path = Path(checkpoint).expanduser()
    if not path.exists():
        hint = nearest(checkpoint, ("tested", "best", "last"))
        raise UserError(f"checkpoint={checkpoint} is not a file; choose tested, best, last or a file.{hint}")
    return path


def tested_weights(folder: Path, record: RunRecord) -> dict[str, Any]:
    """Return the state dict of the network that a finished run tested.

    Raises:
        UserError: the checkpoint is missing or damaged.
    """
    return network_weights(tested_checkpoint(folder, record))


def network_weights(checkpoint: Path) -> dict[str, Any]:
    """Return the state dict of a checkpoint's network: the averaged one if the run kept an average."""
    state = load(checkpoint)["state_dict"]
    prefix = _AVERAGED if any(name.startswith(_AVERAGED) for name in state) else _TRAINED
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def weights_sha256(network: torch.nn.Module) -> str:
    """Return the SHA-256 over names, types, shapes and bytes of parameters and buffers.

    If parameters are split over processes, this is a collective operation: all ranks must call it.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if not isinstance(tensor, torch.Tensor):  # extra state, e.g. the path of the network behind a stem
            continue
        values = whole(tensor).detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()

"""A lock that keeps two runs out of one output folder."""

from __future__ import annotations

import atexit
import errno
import fcntl
import json
import os
import socket
import time
import warnings
from pathlib import Path

from renoise.errors import InputError, InputWarning
from renoise.utils.files import writing_to

LOCK = "run.lock"
"""Name of the lock file. It is there while a run writes, and after a run that was killed; then nobody holds it."""

_held: dict[str, tuple[Path, int]] = {}
"""Path and descriptor of the lock files that this process holds, by the real path of their folder."""


def lock_folder(folder: Path) -> bool:
    """Locks an output folder for this process and creates the folder. Only one process of a run calls it.

    The operating system drops the lock when the process ends, however it ends, so no lock is left behind. It works over
    NFS, unless a machine mounted it with `nolock` or `local_lock`.

    Args:
        folder: The output folder.

    Returns:
        Whether the folder was removed, or the lock in it, since this process locked it.

    Raises:
        InputError: Another run writes to the folder, or it cannot be written.
    """
    key = os.path.realpath(folder)
    before = _held.get(key)
    if before is not None and _is_there(*before):
        return False
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / LOCK
        descriptor = _locked(path)
        os.truncate(descriptor, 0)
        holder = {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        os.write(descriptor, json.dumps(holder).encode())
    if before is not None:
        os.close(before[1])
    _held[key] = path, descriptor
    return before is not None


def unlock_folder(folder: Path) -> None:
    """Unlocks a folder that this process has locked, and removes the lock file.

    Args:
        folder: The output folder.
    """
    path, descriptor = _held.pop(os.path.realpath(folder), (None, None))
    if path is None or descriptor is None:
        return
    if _is_there(path, descriptor):
        path.unlink(missing_ok=True)
    os.close(descriptor)


@atexit.register
def _unlock_all() -> None:
    for folder in list(_held):
        unlock_folder(Path(folder))


def _locked(path: Path) -> int:
    """Returns a descriptor of the lock file, which this process holds alone."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                holder = _holder(descriptor)
                os.close(descriptor)
                raise InputError(
                    f"trainer.default_root_dir: another run writes to {path.parent} ({holder}); wait until it ends, or "
                    "choose another folder"
                ) from None
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                os.close(descriptor)
                raise
            text = f"{path.parent} is on a file system without locks; start no second run on it"
            warnings.warn(text, InputWarning, stacklevel=2)
        if _is_there(path, descriptor):
            return descriptor
        os.close(descriptor)  # the run that held it removed it in the meantime


def _is_there(path: Path, descriptor: int) -> bool:
    """Returns whether the open lock file is still the one of that name."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False


def _holder(descriptor: int) -> str:
    """Returns in words who holds the lock."""
    try:
        holder = json.loads(os.read(descriptor, 1000))
        return f"process {holder['process']} on {holder['host']}, since {holder['since']}"
    except (ValueError, TypeError, KeyError):
        return "it has just begun"

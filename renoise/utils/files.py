"""Writing files so that neither a killed run nor a full disk leaves a broken one."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from renoise.errors import InputError


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file under a temporary name and renames it, so that no reader ever sees half a file.

    When it returns, the file is on the disk and survives a power failure. A link of this name is replaced by the file.

    Args:
        path: The file. Its folder is created where it is missing.
        content: All bytes of the file.

    Raises:
        OSError: The file system refuses.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from renoise.utils.files import write_atomically
        >>> path = Path(tempfile.mkdtemp()) / "sub" / "a.txt"
        >>> write_atomically(path, b"content")
        >>> path.read_bytes()
        b'content'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)  # of a killed run
    with temporary.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Waits until the names of the files in a folder are on the disk.

    Args:
        folder: The folder.

    Raises:
        OSError: The file system refuses.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot, and need not
            raise
    finally:
        os.close(descriptor)


@contextmanager
def writing_to(folder: Path, option: str = "trainer.default_root_dir") -> Iterator[None]:
    """Turns an `OSError` inside the block into an `InputError` that names the option of the output folder.

    Args:
        folder: The output folder.
        option: The option that gives it.

    Raises:
        InputError: The file system refused something.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{option}: {folder} cannot be written: {reason}") from error


def real_path(source: str) -> str:
    """Returns a path that exists in one form, however it was written, and a hub id as it is.

    Args:
        source: A path or a hub id.

    Example:
        >>> from renoise.utils.files import real_path
        >>> real_path("stabilityai/sdxl-turbo")
        'stabilityai/sdxl-turbo'
        >>> real_path("data") == real_path("./configs/../data")
        True
    """
    return os.path.realpath(source) if os.path.exists(source) else source

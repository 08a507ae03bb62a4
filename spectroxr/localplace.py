"""A store in a folder on disk."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from spectroxr.errors import ConflictError, StoreError
from spectroxr.manifest import RESTORE, named, replace_file, seal, sync
from spectroxr.place import MANIFEST, Entry
from spectroxr.writerlock import only_writer

__all__ = ["LocalPlace"]

_GENERATION = re.compile(r"\d{6,}")
#: What a file system answers that has no (more) hard links for this file.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EXDEV, errno.EMLINK, errno.ENOSYS, errno.EACCES}


class LocalPlace:
    """A folder. Unchanged files of earlier versions are shared by hard links, so every version is whole by itself.

    Parameters
    ----------
    root : str
        Absolute path.
    """

    def __init__(self, root: str) -> None:
        self.root = Path(root)
        self.workers = 8
        self.links = True

    def __repr__(self) -> str:
        return f"LocalPlace({str(self.root)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LocalPlace) and other.root == self.root

    def __hash__(self) -> int:
        return hash(self.root)

    def name_of(self, key: str) -> str:
        """Name a file for a message."""
        return f"{self.root}/{key}" if key else str(self.root)

    def path_of(self, key: str) -> Path:
        """Return the path of a file."""
        return self.root / key

    def read(self, key: str) -> bytes:
        """Return a file."""
        try:
            return self.path_of(key).read_bytes()
        except NotADirectoryError as error:
            raise FileNotFoundError(str(error)) from error

    def read_ranges(self, key: str, starts: Sequence[int], stops: Sequence[int]) -> list[bytes]:
        """Return parts of a file."""
        with open(self.path_of(key), "rb", buffering=0) as file:
            return [os.pread(file.fileno(), stop - start, start) for start, stop in zip(starts, stops, strict=True)]

    def expect(self, key: str, size: int) -> None:
        """Raise StoreError if a file is missing or has another size."""
        try:
            found = self.path_of(key).stat().st_size
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StoreError(f"{self.name_of(key)} is missing from the store. {RESTORE}") from error
        if found != size:
            raise StoreError(f"{self.name_of(key)} has {found} bytes instead of {size}; it is damaged. {RESTORE}")

    def write(self, key: str, parts: Iterable[Any]) -> None:
        """Write a new file and have its content on the disk."""
        path = self.path_of(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        # a generation has one writer: what is there is what a worker that died has left
        path.unlink(missing_ok=True)
        with named(path), open(path, "xb", buffering=0) as file:
            for part in parts:
                view = memoryview(part).cast("B")
                while len(view):
                    view = view[file.write(view) :]
            os.fsync(file.fileno())

    def share(self, key: str, known: str, size: int) -> str:
        """Link a file of an earlier version; copy it where the file system has no links."""
        old, new = self.path_of(known), self.path_of(key)
        if old.stat().st_size != size:
            raise FileNotFoundError(errno.ENOENT, "not as it was saved", str(old))
        new.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(old, new)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            shutil.copyfile(old, new)
            sync(new)
        return key

    def settle(self, generation: str) -> None:
        """Have the names in all folders of a generation on the disk."""
        for folder, _, _ in os.walk(self.root / generation, topdown=False):
            sync(Path(folder))
        sync(self.root)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock of the folder, which is made if it is missing and removed again if nothing comes of it."""
        made: list[Path] = []
        with ExitStack() as held:
            try:
                self._locked(held, made)
                yield
            except ConflictError as error:
                if error.__cause__ is None:  # ours to give up, not the lock of another
                    _remove_empty(made)
                raise
            except BaseException:
                _remove_empty(made)
                raise

    def _locked(self, held: ExitStack, made: list[Path]) -> None:
        """Make the folders that are missing and lock the last, again if another writer that gives up removes it."""
        for attempt in range(10):
            for folder in reversed([one for one in (self.root, *self.root.parents) if not one.exists()]):
                with contextlib.suppress(FileExistsError):
                    folder.mkdir()
                    made.append(folder)
                    sync(folder.parent)
            try:
                held.enter_context(only_writer(self.root))
                return
            except FileNotFoundError:
                if attempt == 9:
                    raise

    def prepare(self) -> None:
        """Mark an empty folder as a store that holds nothing yet."""
        if not (self.root / MANIFEST).exists():
            replace_file(self.root / MANIFEST, seal({"generation": None, "versions": []}))
            sync(self.root.parent)

    def undo(self) -> None:
        """Remove the mark again, and the folder if it is empty."""
        (self.root / MANIFEST).unlink(missing_ok=True)

    def claim(self, generation: str) -> bool:
        """Make the folder of a generation."""
        try:
            (self.root / generation).mkdir()
        except FileExistsError:
            return False
        return True

    def manifest(self) -> tuple[bytes | None, Any]:
        """Return the manifest; its content is the token."""
        try:
            data = (self.root / MANIFEST).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None, None
        return data, data

    def commit(self, data: bytes, token: Any, ours: Callable[[bytes | None], bool]) -> None:
        """Replace the manifest by renaming a whole new one over it."""
        if self.manifest()[1] != token:
            raise ConflictError(f"{self.root} was saved by another writer meanwhile; nothing was changed")
        replace_file(self.root / MANIFEST, data)

    def tidy(self) -> None:
        """Remove what a manifest that was never put in place has left."""
        (self.root / f"{MANIFEST}.tmp").unlink(missing_ok=True)

    def discard(self, generation: str) -> None:
        """Remove the folder of a generation."""
        shutil.rmtree(self.root / generation, ignore_errors=True)

    def generations(self) -> list[str]:
        """Return the folders of generations."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(entry.name for entry in self.root.iterdir() if _GENERATION.fullmatch(entry.name))
        return []

    def entries(self, generation: str) -> Iterator[Entry]:
        """Yield the files of a generation."""
        now = time.time()
        for folder, _, names in os.walk(self.root / generation):
            for name in names:
                path = Path(folder) / name
                about = path.stat()
                yield Entry(path.relative_to(self.root).as_posix(), about.st_size, now - about.st_mtime)

    def remove(self, entries: Sequence[Entry]) -> int:
        """Remove files and the folders that become empty; a file that another version links frees nothing."""
        freed = 0
        for entry in entries:
            path = self.path_of(entry.key)
            with contextlib.suppress(FileNotFoundError):
                links = path.stat().st_nlink
                path.unlink()
                freed += entry.size if links == 1 else 0
        for generation in {entry.key.partition("/")[0] for entry in entries}:
            for folder, _, _ in os.walk(self.root / generation, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
        return freed


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders that were made, the last first, as far as they are empty."""
    for folder in reversed(folders):
        with contextlib.suppress(OSError):
            folder.rmdir()

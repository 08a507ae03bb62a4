"""A store in a bucket, through obstore: S3, Google Cloud Storage, Azure, or memory."""

from __future__ import annotations

import datetime
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from urllib.parse import urlparse

from spectroxr.errors import ConflictError, StoreError
from spectroxr.place import MANIFEST, Entry

__all__ = ["ObjectPlace"]

#: ``memory://name`` is the same store for everyone in this process.
_MEMORY: dict[str, Any] = {}
_MEMORY_LOCK = threading.Lock()

#: Give up on a service that does not answer after about this long.
_RETRY = {"max_retries": 6, "retry_timeout": datetime.timedelta(seconds=30)}
_TIMEOUT = {"timeout": "60s", "connect_timeout": "10s"}
#: Objects are sent in parts of this size from this size on.
_PART = 16 << 20


_NO_CREDENTIALS = (
    "no credentials were found in storage_options or the environment, nor does this machine lend any (for S3: "
    "access_key_id and secret_access_key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; the profiles of AWS_PROFILE "
    "are not read; skip_signature=True for a public bucket)"
)
#: What services say, and what it means. The addresses are those that lend credentials to machines in a cloud.
_KNOWN = {
    "169.254.169.254": _NO_CREDENTIALS,
    "metadata.google.internal": _NO_CREDENTIALS,
    "ExpiredToken": "the credentials have expired",
    "InvalidAccessKeyId": "the access key is not known there",
    "NoSuchBucket": "the bucket does not exist",
}


#: Options of the HTTP client, which obstore takes apart from those of the store.
_CLIENT = {"allow_http", "allow_invalid_certificates", "connect_timeout", "default_content_type", "default_headers"}
_CLIENT |= {"http1_only", "http2_only", "pool_idle_timeout", "pool_max_idle_per_host", "proxy_ca_certificate"}
_CLIENT |= {"proxy_excludes", "proxy_url", "timeout", "user_agent"}


class ObjectPlace:
    """A prefix in a bucket. Unchanged objects of earlier versions are shared by reference: nothing is copied.

    Parameters
    ----------
    url : str
    options : dict
        As for `open_place`.
    home : int, optional
        The process that ``memory://`` is in (default: this one).
    """

    def __init__(self, url: str, options: dict[str, Any], home: int | None = None) -> None:
        try:
            import obstore
        except ImportError as error:
            raise ImportError(
                f"{url} needs obstore; install it with: python -m pip install 'spectroxr[cloud]'"
            ) from error
        self.url = url.rstrip("/")
        self.workers = 16
        self.links = False
        self._options = options
        self._obs = obstore
        self._prefix = ""
        self._home: int | None = None
        parts = urlparse(self.url)
        if not parts.netloc and parts.scheme != "memory":
            raise ValueError(f"{url!r} names no bucket; a URL is like 's3://bucket/name'.")
        if parts.scheme == "memory":
            with _MEMORY_LOCK:
                self._store = _MEMORY.setdefault(parts.netloc, obstore.store.MemoryStore())
            self._home = home or os.getpid()
            self._prefix = parts.path.strip("/") + "/" if parts.path.strip("/") else ""
        else:
            self._store = _connected(self.url, options)

    def __reduce__(self) -> tuple[Any, ...]:
        return ObjectPlace, (self.url, self._options, self._home)

    def __repr__(self) -> str:
        return f"ObjectPlace({self.url!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectPlace) and other._identity() == self._identity()

    def _identity(self) -> tuple[Any, ...]:
        """Return what tells one place from another: not the credentials, which are renewed."""
        named = {_short_name(key): str(value).rstrip("/") for key, value in self._options.items()}
        where = {key: value for key, value in named.items() if key in ("endpoint", "account", "container")}
        return (self.url, tuple(sorted(where.items())))

    def __hash__(self) -> int:
        return hash(self.url)

    def name_of(self, key: str) -> str:
        """Name an object for a message."""
        return f"{self.url}/{key}" if key else self.url

    def _at(self, key: str) -> str:
        return self._prefix + key

    @contextmanager
    def _spoken(self, key: str, doing: str) -> Iterator[None]:
        """Turn what the object store raises into an error that says what to do."""
        if self._home not in (None, os.getpid()):
            raise StoreError(
                f"cannot {doing} {self.name_of(key)}: what is in memory:// is in the process that put it there, and "
                "this is another. Use a folder, a bucket, or threads."
            )
        failed = self._obs.exceptions
        try:
            yield
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error) or "bucket does not exist" in str(error):
                raise StoreError(f"cannot {doing} {self.name_of(key)}: the bucket does not exist.") from error
            raise FileNotFoundError(self.name_of(key)) from error
        except (failed.UnauthenticatedError, failed.PermissionDeniedError) as error:
            text = str(error)
            hint = next((said for word, said in _KNOWN.items() if word in text), _short(error))
            raise StoreError(
                f"cannot {doing} {self.name_of(key)}: access was refused ({hint}). Are the credentials there, "
                "not expired, and allowed to do this? They come from storage_options or the environment."
            ) from error
        except (failed.AlreadyExistsError, failed.PreconditionError):
            raise
        except failed.BaseError as error:
            text = str(error)
            hint = next((said for word, said in _KNOWN.items() if word in text), _short(error))
            raise StoreError(f"cannot {doing} {self.name_of(key)}: {hint}.") from error

    def read(self, key: str) -> bytes:
        """Return an object."""
        with self._spoken(key, "read"):
            return bytes(self._obs.get(self._store, self._at(key)).bytes())

    def read_ranges(self, key: str, starts: Sequence[int], stops: Sequence[int]) -> list[bytes]:
        """Return parts of an object; parts near each other travel together."""
        with self._spoken(key, "read"):
            found = self._obs.get_ranges(self._store, self._at(key), starts=list(starts), ends=list(stops))
            return [bytes(part) for part in found]

    def expect(self, key: str, size: int) -> None:
        """Do nothing: to ask costs a request."""

    def write(self, key: str, parts: Iterable[Any]) -> None:
        """Write a new object, a large one in parts."""
        pieces = [memoryview(part).cast("B") for part in parts] if isinstance(parts, list | tuple) else None
        with self._spoken(key, "write"):
            if pieces is not None and sum(map(len, pieces)) <= _PART:
                self._obs.put(self._store, self._at(key), b"".join(pieces), use_multipart=False)
                return
            stream: Iterator[bytes] = (bytes(memoryview(part).cast("B")) for part in (pieces or parts))
            with _drawn(stream) as drawn:
                self._obs.put(self._store, self._at(key), drawn, use_multipart=True, chunk_size=_PART)

    def share(self, key: str, known: str, size: int) -> str:
        """Return the key under which the object is already."""
        return known

    def settle(self, generation: str) -> None:
        """Nothing to do: a bucket has what it has acknowledged."""

    def writing(self) -> AbstractContextManager[None]:
        """Nothing keeps other writers away; `commit` tells who was first."""
        return nullcontext()

    def prepare(self) -> None:
        """Nothing to do: a bucket has no folders."""

    def undo(self) -> None:
        """Nothing to do."""

    def claim(self, generation: str) -> bool:
        """Put a mark under the name of the generation, unless there is one."""
        key = f"{generation}/claim"
        try:
            with self._spoken(key, "write"):
                self._obs.put(self._store, self._at(key), f"{os.getpid()} {time.time():.0f}".encode(), mode="create")
        except FileNotFoundError as error:
            raise StoreError(f"cannot write {self.name_of(key)}: there is no such bucket.") from error
        except (self._obs.exceptions.AlreadyExistsError, self._obs.exceptions.PreconditionError):
            return False
        return True

    def manifest(self) -> tuple[bytes | None, Any]:
        """Return the manifest; its entity tag is the token."""
        try:
            with self._spoken(MANIFEST, "read"):
                found = self._obs.get(self._store, self._at(MANIFEST))
                return bytes(found.bytes()), {"e_tag": found.meta["e_tag"], "version": found.meta["version"]}
        except FileNotFoundError:
            return None, None

    def commit(self, data: bytes, token: Any, ours: Callable[[bytes | None], bool]) -> None:
        """Put the manifest on the condition that it is still the one of `token`."""
        failed = self._obs.exceptions
        mode: Any = "create" if token is None else {k: v for k, v in token.items() if v is not None}
        try:
            with self._spoken(MANIFEST, "write"):
                self._obs.put(self._store, self._at(MANIFEST), data, mode=mode, use_multipart=False)
        except (failed.AlreadyExistsError, failed.PreconditionError) as error:
            # The first answer may have been lost on the way and the request repeated: then it was us, even if others
            # have saved on top of it since.
            if not ours(self.manifest()[0]):
                raise ConflictError(
                    f"{self.url} was saved by another writer meanwhile; nothing of theirs was changed"
                ) from error
        except StoreError as error:
            try:
                done = ours(self.manifest()[0])
            except StoreError:
                done = False
            if not done:
                raise StoreError(
                    f"{error} Whether the version was committed is not known; versions() tells, once the bucket "
                    "answers."
                ) from error

    def tidy(self) -> None:
        """Nothing to do: a manifest is put at once."""

    def discard(self, generation: str) -> None:
        """Remove the objects of a generation but its mark, as far as the bucket answers.

        The mark keeps the name from being taken again: an object that was sent may still arrive late.
        """
        try:
            self.remove([entry for entry in self.entries(generation) if not entry.key.endswith("/claim")])
        except (StoreError, OSError):
            return

    def generations(self) -> list[str]:
        """Return the prefixes of generations."""
        with self._spoken("", "list"):
            found = self._obs.list_with_delimiter(self._store, self._prefix or None)["common_prefixes"]
        names = (text.strip("/").rpartition("/")[2] for text in found)
        return sorted(name for name in names if name.isdigit() and len(name) >= 6)

    def entries(self, generation: str) -> Iterator[Entry]:
        """Yield the objects of a generation."""
        now = datetime.datetime.now(datetime.UTC)
        with self._spoken(generation, "list"):
            for batch in self._obs.list(self._store, self._at(generation) + "/"):
                for about in batch:
                    age = (now - about["last_modified"]).total_seconds()
                    yield Entry(about["path"].removeprefix(self._prefix), int(about["size"]), age)

    def remove(self, entries: Sequence[Entry]) -> int:
        """Remove objects."""
        with self._spoken("", "delete from"):
            for start in range(0, len(entries), 1000):
                self._obs.delete(self._store, [self._at(entry.key) for entry in entries[start : start + 1000]])
        return sum(entry.size for entry in entries)


@contextmanager
def _drawn(parts: Iterator[bytes]) -> Iterator[Iterator[bytes]]:
    """Draw parts in a thread of their own: obstore takes them inside its runtime, where nothing may use it again."""
    waiting: queue.Queue[Any] = queue.Queue(2)
    given_up = threading.Event()

    def offer(item: Any) -> bool:
        while not given_up.is_set():
            try:
                waiting.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def draw() -> None:
        try:
            for part in parts:
                if not offer(part):
                    return
        except BaseException as error:
            offer(error)
        else:
            offer(None)

    failure: list[BaseException] = []

    def taken() -> Iterator[bytes]:
        while (item := waiting.get()) is not None:
            if isinstance(item, BaseException):
                failure.append(item)
                raise item
            yield item

    thread = threading.Thread(target=draw, daemon=True)
    thread.start()
    try:
        yield taken()
    except Exception:
        if failure:
            raise failure[0] from None
        raise
    finally:
        given_up.set()
        thread.join()


def _short_name(key: str) -> str:
    """Return one name for the spellings that obstore takes for an option."""
    name = key.lower()
    for start in ("aws_", "azure_storage_", "azure_", "google_"):
        name = name.removeprefix(start)
    return name.removesuffix("_url").removesuffix("_name")


def _short(error: BaseException) -> str:
    """Return what an error says in one line: its end, where the reason stands, if it is long."""
    text = " ".join(re.sub(r"https?://\S+", "", str(error).partition("\n\nDebug source")[0]).split())
    reason = text.rpartition(" - ")[2] if len(text) > 300 else text
    return reason[-300:].rstrip(". ")


def _connected(url: str, options: Mapping[str, Any]) -> Any:
    """Return the obstore of a URL; an endpoint that is not https is allowed because it was asked for."""
    from obstore.store import from_url

    rest = dict(options)
    client: dict[str, Any] = {**_TIMEOUT, **rest.pop("client_options", {})}
    retry = {**_RETRY, **rest.pop("retry_config", {})}
    client |= {key: rest.pop(key) for key in list(rest) if key in _CLIENT}
    if isinstance(client.get("allow_http"), str):
        client["allow_http"] = client["allow_http"].lower() in ("true", "1", "yes")
    endpoints = [str(v) for k, v in rest.items() if "endpoint" in k]
    endpoints += [os.environ.get(name, "") for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")]
    if any(text.startswith("http://") for text in endpoints):
        client.setdefault("allow_http", True)
    try:
        return from_url(url, config=rest or None, client_options=client, retry_config=retry)  # type: ignore[call-overload]
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"storage_options or URL not understood for {url}: {_short(error)}.") from error

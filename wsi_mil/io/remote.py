"""Files behind URLs (s3://, gs://, memory://, ...), by fsspec.

Credentials and options are those of fsspec: its environment variables and configuration files.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from wsi_mil.errors import ConfigError, DataError, WsiMilError

Location = Path | str
"""A local path, or a URL as it was written."""
URL_PATTERN = r"^[a-z][a-z0-9+.-]*://.+"
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
"""The package that fsspec needs for a protocol."""
PROTOCOLS = {*PACKAGES, "http", "https", "file", "memory", "ssh", "sftp", "hdfs", "webhdfs", "ftp"}
"""What a URL may begin with. Others of fsspec read local files or start programs (reference, git, dask), or
name a second URL within the first (simplecache::, zip::)."""
VERSION_KEYS = (
    "size",
    "ETag",
    "etag",
    "md5Hash",
    "crc32c",
    "mtime",
    "LastModified",
    "updated",
    "last_modified",
    "created",
)
"""What servers state about the version of a file; each server states some of them."""


def is_url(location: object) -> bool:
    """Return whether this is a URL rather than a path.

    >>> is_url("s3://bucket/slides"), is_url(Path("slides")), is_url("C:/slides")
    (True, False, False)
    """
    return isinstance(location, str) and re.match(URL_PATTERN, location) is not None


def as_location(text: str) -> Location:
    """Return what a user wrote as a URL, or else as a path; file:// is a path, which every reader can read.

    >>> as_location("s3://bucket/a"), as_location("file:///data/a").as_posix()
    ('s3://bucket/a', '/data/a')
    """
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    return text if is_url(text) else Path(text)


def open_url(url: str) -> tuple[Any, str]:
    """Return fsspec's file system of `url`, and the path in it.

    Raises ConfigError for a protocol that fsspec does not know, or, with the package to install, cannot open.
    """
    from fsspec.core import url_to_fs

    protocol = url.partition("://")[0]
    if protocol not in PROTOCOLS:
        raise ConfigError(
            f"{url}: URLs of the protocol {protocol!r} are not read, expected {', '.join(sorted(PROTOCOLS))}"
        )
    if "::" in url:
        raise ConfigError(f"{url}: '::' joins several URLs to one, which is not read: give one without it")
    try:
        files, path = url_to_fs(url)
    except ImportError as error:
        package = PACKAGES.get(protocol, f"fsspec's package for {protocol}")
        raise ConfigError(
            f"{url}: reading {protocol}:// needs another package: pip install {package}"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{url}: fsspec knows no protocol {protocol!r}") from error
    return files, str(path).rstrip("/")


def find_urls(folder: str) -> list[str]:
    """Return the URLs of all files below `folder`, or of the one file that it is, sorted.

    Raises DataError if there is nothing.
    """
    files, path = open_url(folder)
    try:
        names = sorted(files.find(path))
    except WsiMilError:
        raise
    except Exception as error:
        raise DataError(f"{folder} cannot be listed ({type(error).__name__}: {error})") from error
    if not names:
        raise DataError(f"nothing at {folder}: check the address, and that the credentials may list it")
    return [files.unstrip_protocol(name) for name in names]


def below(url: str, folder: str) -> str:
    """Return the path of `url` below `folder`; of the folder itself its last part.

    >>> below("memory://bucket/a/b.svs", "memory://bucket/")
    'a/b.svs'
    """
    (_, path), (_, base) = open_url(url), open_url(folder)
    return posixpath.basename(path) if path == base else path.removeprefix(base).lstrip("/")


def remote_version(url: str) -> dict[str, str]:
    """Return what tells whether a remote file has changed: its size, and its ETag, checksum or time if
    stated.

    Raises DataError for a file that cannot be reached.
    """
    files, path = open_url(url)
    try:
        info = files.info(path)
    except Exception as error:
        raise DataError(f"{url} cannot be reached ({type(error).__name__}: {error})") from error
    return {name: str(info[name]) for name in VERSION_KEYS if info.get(name) is not None}

"""Errors of drydock.

::

    OcaptainError
    └─ DrydockError         a problem of this machine; the message says what to do
    ApiError                an error reply: status, code and message
    ├─ InvalidRequest       an error reply that lists what is wrong with a request
    └─ FsError              an error reply of the fs API (errno name and path)
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ocaptain.errors import OcaptainError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class DrydockError(OcaptainError):
    """Drydock cannot do its work on this machine."""


class ApiError(Exception):
    """A refusal that is sent to the client as JSON ``{"error": code, "message": text}``."""

    def __init__(self, status: int, code: str, message: str, fields: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.fields = fields or {}  # more fields of the JSON body, such as the numbers of a limit
        self.status = status
        self.code = code
        self.message = message

    def body(self) -> dict[str, object]:
        """Return the JSON body of the reply."""
        return {"error": self.code, "message": self.message, **self.fields}


class InvalidRequest(ApiError):
    """A refusal of a request's content, sent as JSON ``{"errors": [text, …]}``.

    Source: the REST reference, and the Go SDK's test of it (``errors_list_test``).
    """

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__(400, "invalid_request", "; ".join(reasons))
        self.reasons = list(reasons)

    def body(self) -> dict[str, object]:
        """Return the JSON body of the reply."""
        return {"errors": self.reasons}


#: What a full disk, or a full quota, is called by programs in the C locale, and as an errno.
NO_ROOM_TEXTS = ("No space left on device", "Disk quota exceeded")
NO_ROOM_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})
INSUFFICIENT_STORAGE = 507


def refusal_of_failure(message: str) -> ApiError:
    """Return the error reply for work that failed on this machine: 507 if its disk is full, else 500."""
    if any(text in message for text in NO_ROOM_TEXTS):
        return ApiError(INSUFFICIENT_STORAGE, "insufficient_storage", message)
    return ApiError(500, "sandbox_failed", message)


FS_STATUS = {"ENOENT": 404, "EEXIST": 409, "EACCES": 403, "EPERM": 403, "ENOSPC": INSUFFICIENT_STORAGE}


class FsError(ApiError):
    """A refusal of the fs API: JSON ``{"error": text, "code": errno name, "path": path}``."""

    def __init__(self, code: str, path: str, message: str) -> None:
        super().__init__(FS_STATUS.get(code, 400), code, message)
        self.path = path

    @classmethod
    def from_os(cls, error: OSError, path: str) -> FsError:
        """Translate an operating system error for ``path`` (the client's spelling)."""
        code = errno.errorcode.get(error.errno or errno.EIO, "EIO")
        if error.errno in NO_ROOM_ERRNOS:
            return cls("ENOSPC", path, f"{error.strerror}: {path}")
        known = {"ENOENT", "EEXIST", "ENOTDIR", "EISDIR", "EACCES", "EPERM", "ENOTEMPTY", "EINVAL", "EIO"}
        code = code if code in known else ("EINVAL" if code in {"ELOOP", "ENAMETOOLONG", "EXDEV"} else "EIO")
        return cls(code, path, f"{error.strerror or 'input/output error'}: {path}")

    def body(self) -> dict[str, object]:
        """Return the JSON body of the reply."""
        return {"error": self.message, "code": self.code, "path": self.path}

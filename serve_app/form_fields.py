"""Forms take the fields that they name and no others, as bodies in JSON do."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, Request

from search_core.errors import InvalidRequestError

MAX_NAME_CHARS = 100


def only(*names: str) -> Any:
    """A dependency of a route with a form of these fields.

    Raises:
        InvalidRequestError: the form has another one.
    """

    async def check(request: Request) -> None:
        unknown = [name for name in await request.form() if name not in names]
        if unknown:
            name = unknown[0].encode("utf-8", "replace").decode()[:MAX_NAME_CHARS]
            words = f"is no field of this form: it takes {', '.join(names)}"
            raise InvalidRequestError(f"{name}: {words}", [(words, None, name)])

    return Depends(check)

"""Routes of single pictures."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from fastapi.responses import FileResponse, RedirectResponse
from pydantic import BaseModel, StringConstraints

from search_core.errors import NotFoundError
from search_core.pictures import THUMBNAIL_TYPE
from serve_app.form_fields import only
from serve_app.library import Content, Library

MAX_CAPTIONS = 16
CACHE_CONTROL = "private, max-age=300"
# whatever the bytes are, a browser shows them as a picture or not at all
SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": CACHE_CONTROL,
}

Caption = Annotated[str, StringConstraints(max_length=2_000)]


class ImageResponse(BaseModel):
    """One indexed picture."""

    id: str
    uri: str
    payload: dict[str, Any]
    image_url: str
    thumbnail_url: str

    @classmethod
    def of(cls, id: str, payload: dict[str, Any]) -> ImageResponse:
        """From what the store holds."""
        base = f"/api/images/{id}"
        return cls(
            id=id,
            uri=str(payload.get("uri", "")),
            payload=payload,
            image_url=f"{base}/content",
            thumbnail_url=f"{base}/thumbnail",
        )


class UploadResponse(ImageResponse):
    """A picture that was just indexed."""

    collection: str


def image_routes(library: Library) -> APIRouter:
    """The routes, calling `library`."""
    routes = APIRouter(prefix="/images", tags=["images"])

    @routes.get("/{id}")
    async def image(id: str) -> ImageResponse:
        """What is known of a picture."""
        point = await library.point(_known(id))
        return ImageResponse.of(point.id, point.payload)

    @routes.head("/{id}/content", include_in_schema=False)
    @routes.get("/{id}/content", response_class=Response)
    async def content(id: str, request: Request) -> Response:
        """The picture itself, or a redirect to where it came from."""
        return _content_response(request, await library.content(_known(id)))

    @routes.head("/{id}/thumbnail", include_in_schema=False)
    @routes.get("/{id}/thumbnail", response_class=Response)
    async def thumbnail(id: str, request: Request) -> Response:
        """A small JPEG of the picture."""
        data, version = await library.thumbnail(_known(id))
        headers = {**SAFE_HEADERS, "ETag": f'"t-{version}"'}
        if _has(request, headers["ETag"]):
            return Response(status_code=304, headers=headers)
        return Response(data, media_type=THUMBNAIL_TYPE, headers=headers)

    @routes.post("", status_code=201, dependencies=[only("image", "caption")])
    async def upload(
        response: Response,
        image: Annotated[UploadFile, File(description="a picture file")],
        caption: Annotated[list[Caption] | None, Form(max_length=MAX_CAPTIONS)] = None,
    ) -> UploadResponse:
        """Keep and index a picture; the answer is 200 if the same file was uploaded before."""
        found = await library.upload(await image.read(), name=image.filename, captions=caption or [])
        response.status_code = 201 if found.created else 200
        response.headers["Location"] = f"/api/images/{found.id}"
        return UploadResponse(
            **ImageResponse.of(found.id, found.payload).model_dump(), collection=found.collection
        )

    @routes.delete("/{id}", status_code=204)
    async def delete(id: str) -> None:
        """Take a picture out of the index, and delete its file if it was uploaded here."""
        await library.delete(_known(id))

    return routes


def _known(id: str) -> str:
    """The id in its usual form.

    Raises:
        NotFoundError: it is no UUID, so there cannot be a picture of that id.
    """
    try:
        return str(uuid.UUID(id))
    except ValueError:
        raise NotFoundError("no image of this id: ids are UUIDs, as search results carry them") from None


def _content_response(request: Request, content: Content) -> Response:
    if content.url is not None:
        return RedirectResponse(content.url, 302, headers={"Cache-Control": CACHE_CONTROL})
    headers = {**SAFE_HEADERS, "ETag": f'"{content.version}"'}
    if _has(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    if content.path is not None:
        return FileResponse(content.path, media_type=content.media_type, headers=headers)
    return Response(content.data, media_type=content.media_type, headers=headers)


def _has(request: Request, etag: str) -> bool:
    given = request.headers.get("if-none-match", "")
    return any(one.strip().removeprefix("W/") in {etag, "*"} for one in given.split(",") if one.strip())

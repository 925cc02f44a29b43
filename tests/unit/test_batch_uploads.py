"""Uploads are taken along into a new collection, with what is known of them; what is no upload, or gone, is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batch_index.captions import Captions
from batch_index.plan import make_plan
from batch_index.plan_file import PlanFile
from batch_index.quarantine import Quarantine
from batch_index.sources import Reader, open_source
from batch_index.uploads import Uploads
from search_core.addresses import local_path
from tests.fixtures.api_app import ApiUnderTest, picture, running_api
from tests.fixtures.shelf import tasks


async def upload(api: ApiUnderTest, colour: tuple[int, int, int], **data: list[str]) -> str:
    files = {"image": (f"{colour[0]}.png", picture(colour))}
    return str((await api.client.post("/images", files=files, data=data)).json()["id"])


@pytest.mark.parametrize("kind", ["edge", "memory"])
async def test_a_new_collection_takes_uploads_along(tmp_path: Path, kind: str) -> None:
    async with running_api(tmp_path, kind) as api:
        kept = await upload(api, (200, 30, 90), caption=["a rose", "in bloom"])
        gone = await upload(api, (10, 20, 30))
        uri = (await api.client.get(f"/images/{gone}")).json()["uri"]
        (local_path(uri) or tmp_path).unlink()
        red = tmp_path / "pictures" / "red"
        own = api.settings.own_folders
        sources = [
            open_source(str(folder), api.settings.source, own)
            for folder in (red, tmp_path / "pictures" / "blue")
        ]
        file = PlanFile(tmp_path / "plan.db")
        plan = await make_plan(
            api.store,
            None,
            sources,
            Captions(sources, None),
            Quarantine(tmp_path / "quarantine.parquet"),
            Reader(api.settings.source, api.settings.image),
            file,
            delete_missing=False,
            exactly=True,
            uploads=Uploads(api.store, api.collection, api.settings.media_root),
        )
        assert (plan.seen, plan.added) == (7, 7)
        (task,) = [task for task in tasks(plan) if Path(task.uri).parent.name == "media"]
        file.close()
        point = (await api.client.get(f"/images/{kept}")).json()
        assert (task.uri, task.version) == (point["uri"], point["payload"]["source_version"])
        told = {"captions": ["a rose", "in bloom"], "columns": {"original_name": "200.png"}}
        assert json.loads(task.description) == told

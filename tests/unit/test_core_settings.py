"""Settings: environment over file, arguments over both, and no wrong name or value passes in silence."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from search_core.errors import UsageError
from search_core.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """No settings but the test's own."""
    for name in os.environ:
        if name.upper().startswith("IMAGE_SEARCH_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def yaml(text: str, path: str = "image-search.yaml") -> Path:
    file = Path(path)
    file.write_text(text)
    return file


def test_without_anything_there_are_defaults():
    settings = load_settings()
    assert settings.store.path == Path(".image-search")
    assert settings.store.qdrant_url is None
    assert settings.model.name == "builtin"


def test_the_environment_names_a_group_and_a_setting(monkeypatch):
    monkeypatch.setenv("IMAGE_SEARCH_STORE__PATH", "/tmp/there")
    monkeypatch.setenv("IMAGE_SEARCH_STORE__LOCK_TIMEOUT_S", "0.5")
    monkeypatch.setenv("IMAGE_SEARCH_INDEX__BATCH_SIZE", "7")
    settings = load_settings()
    assert settings.store.path == Path("/tmp/there")
    assert settings.store.lock_timeout_s == 0.5
    assert settings.index.batch_size == 7
    assert settings.index.encoders == 1


def test_the_yaml_file_of_the_working_folder_counts():
    yaml("store:\n  path: from-file\nserve:\n  port: 9000\n")
    settings = load_settings()
    assert (settings.store.path, settings.serve.port) == (Path("from-file"), 9000)


def test_the_named_file_counts_instead(monkeypatch, tmp_path):
    yaml("serve:\n  port: 9000\n")
    monkeypatch.setenv(
        "IMAGE_SEARCH_CONFIG", str(yaml("model:\n  name: fake\n", str(tmp_path / "other.yaml")))
    )
    settings = load_settings()
    assert (settings.serve.port, settings.model.name) == (8000, "fake")


def test_the_environment_wins_over_the_file_setting_by_setting(monkeypatch):
    yaml("store:\n  path: from-file\n  collection: from-file\n")
    monkeypatch.setenv("IMAGE_SEARCH_STORE__PATH", "from-env")
    settings = load_settings()
    assert (settings.store.path, settings.store.collection) == (Path("from-env"), "from-file")


def test_arguments_win_over_everything(monkeypatch):
    yaml("serve:\n  port: 9000\n")
    monkeypatch.setenv("IMAGE_SEARCH_STORE__PATH", "from-env")
    monkeypatch.setenv("IMAGE_SEARCH_STORE__QDRANT_URL", "http://env:1")
    settings = load_settings().changed({"store": {"path": "from-argument"}, "serve": {}})
    assert settings.store.path == Path("from-argument")
    assert settings.store.qdrant_url == "http://env:1"
    assert settings.serve.port == 9000
    assert load_settings().changed({"store": {"qdrant_url": None}}).store.qdrant_url is None


def test_changing_makes_a_copy():
    settings = load_settings()
    assert settings.changed({"serve": {"port": 1234}}).serve.port == 1234
    assert settings.serve.port == 8000


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("IMAGE_SEARCH_STORE__PTAH", "x", r"store\.ptah"),
        (
            "IMAGE_SEARCH_STOER__PATH",
            "x",
            "IMAGE_SEARCH_STOER__PATH: there is no group 'STOER' (store, model",
        ),
        ("image_search_stoer__path", "x", "there is no group 'STOER'"),
        ("IMAGE_SEARCH_SERVE__PORT", "0", r"serve\.port"),
        ("IMAGE_SEARCH_SERVE__PORT", "http", r"serve\.port"),
        ("IMAGE_SEARCH_INDEX__ENCODERS", "0", r"index\.encoders"),
        ("IMAGE_SEARCH_STORE__COLLECTION", "a/b", r"store\.collection"),
        ("IMAGE_SEARCH_STORE__COLLECTION", "", r"store\.collection"),
        ("IMAGE_SEARCH_MODEL__PRECISION", "int8", r"model\.precision"),
        ("IMAGE_SEARCH_IMAGE__MAX_IMAGE_MB", "-1", r"image\.max_image_mb"),
        ("IMAGE_SEARCH_STORE", "no json", "store"),
    ],
)
def test_a_wrong_name_or_value_in_the_environment_is_named(monkeypatch, name, value, says):
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError) as caught:
        load_settings()
    assert re.search(says.replace("(", r"\("), str(caught.value)), caught.value
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["IMAGE_SEARCH_DEBUG", "IMAGE_SEARCH_TEST_DATA"])
def test_variables_that_are_no_settings_are_left_alone(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    assert load_settings() == Settings()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("stores:\n  path: x\n", "stores"),
        ("store:\n  ptah: x\n", "store.ptah"),
        ("store: 3\n", "store"),
        ("store:\n  path: [1\n", "cannot be read"),
        ("- 1\n", "cannot be read"),
    ],
)
def test_a_wrong_file_is_named(text, says):
    yaml(text)
    with pytest.raises(UsageError, match=says) as caught:
        load_settings()
    assert "\n" not in str(caught.value)


def test_a_named_file_that_is_missing_is_an_error(monkeypatch):
    monkeypatch.setenv("IMAGE_SEARCH_CONFIG", "none.yaml")
    with pytest.raises(UsageError, match=r"IMAGE_SEARCH_CONFIG names none\.yaml, which is not a file"):
        load_settings()


def test_impossible_combinations_say_the_mend(monkeypatch):
    monkeypatch.setenv("IMAGE_SEARCH_MODEL__PRECISION", "fp16")
    monkeypatch.setenv("IMAGE_SEARCH_MODEL__DEVICE", "cpu")
    with pytest.raises(UsageError, match="fp16 needs a GPU: take bf16, fp32 or auto"):
        load_settings()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"replicas": 2, "write_consistency": 3}, "lower it to 2, or raise replicas"),
        ({"oversampling": 2}, "set quantization, or leave oversampling at 1"),
        ({"quantization": "int8", "rescore": False, "oversampling": 2}, "turn rescore on"),
        ({"payload_indexes": ["taken"]}, "'taken': give name:kind, with a kind of keyword, integer"),
        ({"payload_indexes": ["taken:moment"]}, "'taken:moment': give name:kind"),
        ({"payload_indexes": [":keyword"]}, "':keyword': give name:kind"),
        ({"payload_indexes": ["uri:text"]}, "uri is indexed anyway, leave it out"),
        ({"payload_indexes": ["a:text", "a:keyword"]}, "names a field twice"),
    ],
)
def test_what_a_qdrant_server_cannot_do_says_the_mend(given, says):
    with pytest.raises(UsageError, match=r"setting store\.qdrant") as caught:
        load_settings().changed({"store": {"qdrant": given}})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_group_within_a_group_is_read_from_the_environment_and_the_file(monkeypatch):
    yaml("store:\n  qdrant:\n    shards: 6\n    payload_indexes: ['exif.taken:datetime', 'camera:keyword']\n")
    assert load_settings().store.qdrant.index_kinds == {"exif.taken": "datetime", "camera": "keyword"}
    monkeypatch.setenv("IMAGE_SEARCH_STORE__QDRANT__REPLICAS", "2")
    monkeypatch.setenv("IMAGE_SEARCH_STORE__QDRANT__PAYLOAD_INDEXES", "iso:integer, lens:keyword")
    settings = load_settings().store.qdrant
    assert (settings.shards, settings.replicas) == (6, 2)
    assert settings.index_kinds == {"iso": "integer", "lens": "keyword"}
    monkeypatch.setenv("IMAGE_SEARCH_STORE__QDRANT__SHRADS", "2")
    with pytest.raises(UsageError, match=r"store\.qdrant\.shrads"):
        load_settings()


def test_a_wrong_change_is_named():
    with pytest.raises(UsageError, match=r"store\.collection"):
        load_settings().changed({"store": {"collection": "no good name"}})


def test_settings_cannot_be_changed_in_place():
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.store.path = Path("elsewhere")  # type: ignore[misc]


def test_secrets_are_not_shown(monkeypatch):
    monkeypatch.setenv("IMAGE_SEARCH_STORE__QDRANT_API_KEY", "very-secret")
    assert load_settings().store.qdrant_api_key == "very-secret"
    assert "very-secret" not in repr(load_settings())


def test_uploads_are_kept_beside_the_store_unless_said_otherwise(monkeypatch):
    monkeypatch.setenv("IMAGE_SEARCH_STORE__PATH", "/data/store")
    assert load_settings().media_root == Path("/data/store/media")
    monkeypatch.setenv("IMAGE_SEARCH_SERVE__MEDIA_ROOT", "/data/media")
    assert load_settings().media_root == Path("/data/media")

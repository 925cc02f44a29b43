"""All settings, nested by subject, read once from the environment and a YAML file and then passed as values.

Environment variables are `IMAGE_SEARCH_` + group + `__` + name, for instance `IMAGE_SEARCH_STORE__PATH` or, for a group
within a group, `IMAGE_SEARCH_STORE__QDRANT__SHARDS`.
The YAML file is `image-search.yaml` in the working folder, or the one that `IMAGE_SEARCH_CONFIG` names.
Arguments win over the environment, which wins over the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)
from yaml import YAMLError

from search_core.errors import UsageError
from search_core.points import INTEGER_FIELDS, KEYWORD_FIELDS

PREFIX = "IMAGE_SEARCH_"
DELIMITER = "__"
CONFIG_VARIABLE = "IMAGE_SEARCH_CONFIG"
CONFIG_FILE = "image-search.yaml"

IndexKind = Literal["keyword", "integer", "float", "bool", "datetime", "text", "geo", "uuid"]


def _names(value: Any) -> Any:
    """A list as YAML has it, or as one text with commas, as the environment has it."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class Group(BaseModel):
    """A group of settings: frozen, and closed to names it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class QdrantSettings(Group):
    """How collections on a Qdrant server are made (what is there already stays as it is) and searched."""

    shards: int = Field(0, ge=0, description="shards of a new collection; 0 takes one for each node")
    replicas: int = Field(1, ge=1, description="nodes that hold each shard")
    write_consistency: int = Field(
        1,
        ge=1,
        description="replicas that must have a write before it counts; with as many as `replicas`, "
        "none does while a node is away",
    )
    vectors_on_disk: bool = Field(
        False, description="read vectors from disk instead of keeping them in memory"
    )
    payload_on_disk: bool = Field(True, description="read payload from disk; indexed fields stay in memory")
    payload_indexes: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)] = Field(
        (),
        description=f"further payload fields to index, as `name:kind`; kinds: {', '.join(get_args(IndexKind))}",
    )
    hnsw_m: int = Field(16, ge=4, le=128, description="edges of a vector in the HNSW graph")
    hnsw_ef_construct: int = Field(128, ge=16, description="candidates while the HNSW graph is built")
    hnsw_ef: int = Field(256, ge=1, description="candidates while it is searched: more finds more, slower")
    quantization: Literal["none", "int8", "binary", "product"] = Field(
        "none", description="vectors beside the full ones that are 4, 32 or 16 times smaller"
    )
    always_ram: bool = Field(True, description="keep quantized vectors in memory whatever is on disk")
    rescore: bool = Field(True, description="score what quantized vectors find by the full ones")
    oversampling: float = Field(1.0, ge=1, description="times more candidates than wanted that are rescored")
    stall_timeout_s: float = Field(
        600.0,
        gt=0,
        description="how long an index run waits for HNSW while the server finishes no segment of it",
    )

    @model_validator(mode="after")
    def _check(self) -> QdrantSettings:
        if self.write_consistency > self.replicas:
            raise ValueError(
                f"write_consistency {self.write_consistency} can never be reached with replicas {self.replicas}: "
                f"lower it to {self.replicas}, or raise replicas"
            )
        if self.oversampling > 1 and self.quantization == "none":
            raise ValueError(
                "oversampling needs quantized vectors: set quantization, or leave oversampling at 1"
            )
        if self.oversampling > 1 and not self.rescore:
            raise ValueError("oversampling is for rescoring: turn rescore on, or leave oversampling at 1")
        if len(self.index_kinds) < len(self.payload_indexes):
            raise ValueError("payload_indexes names a field twice: leave one out")
        return self

    @property
    def index_kinds(self) -> dict[str, IndexKind]:
        """The further payload fields to index and their kinds.

        Raises:
            ValueError: one of them is no `name:kind`, or is indexed anyway.
        """
        kinds: dict[str, IndexKind] = {}
        for given in self.payload_indexes:
            name, colon, kind = given.rpartition(":")
            if not name or not colon or kind not in get_args(IndexKind):
                raise ValueError(
                    f"payload_indexes {given!r}: give name:kind, with a kind of {', '.join(get_args(IndexKind))}"
                )
            if name in (*KEYWORD_FIELDS, *INTEGER_FIELDS):
                raise ValueError(f"payload_indexes {given!r}: {name} is indexed anyway, leave it out")
            kinds[name] = cast(IndexKind, kind)
        return kinds


class StoreSettings(Group):
    """Where the vectors are."""

    path: Path = Field(Path(".image-search"), description="folder of the embedded store, and of local state")
    qdrant_url: str | None = Field(
        None,
        description="URL of a Qdrant server, used instead of the embedded store; several nodes with commas between",
    )
    qdrant_api_key: str | None = Field(None, description="API key of the Qdrant server", repr=False)
    qdrant_grpc_port: int = Field(
        6334, description="gRPC port of the Qdrant server; a URL that ends in `#grpc=PORT` has its own"
    )
    qdrant: QdrantSettings = QdrantSettings()
    collection: str = Field(
        "images", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="name that readers use; an alias"
    )
    lock_timeout_s: float = Field(
        15.0, ge=0, description="how long to wait for an embedded store that is held"
    )
    timeout_s: float = Field(30.0, gt=0, description="time limit of one call to a Qdrant server")
    optimize_after: int = Field(
        10_000, ge=1, description="vectors outside the HNSW index before an index run rebuilds it"
    )


class ModelSettings(Group):
    """Which encoder, and where it runs."""

    name: str = Field(
        "builtin", description="builtin, ARCH/PRETRAINED, ARCH/path, hf-hub:org/name, local-dir:path"
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:0, mps")
    precision: Literal["auto", "fp32", "fp16", "bf16"] = Field(
        "auto", description="of the weights; auto takes what the device computes fast"
    )
    threads: int = Field(0, ge=0, description="CPU threads of one encoder; 0 takes the cores it is given")
    fake_delay_ms: float = Field(
        0.0, ge=0, description="how long the `fake` model takes for each input, to rehearse a load"
    )


class ImageSettings(Group):
    """Limits on pictures, from files and from users."""

    max_image_mb: float = Field(64.0, gt=0, description="largest picture file, in megabytes")
    max_megapixels: float = Field(180.0, gt=0, description="most pixels of one picture, in millions")
    thumbnail_px: int = Field(384, ge=32, le=2048, description="longest side of a thumbnail, in pixels")


class SourceSettings(Group):
    """Where pictures come from. Credentials of object stores come from where AWS and Google keep them."""

    image_column: str | None = Field(
        None, description="Parquet column with the bytes of pictures; empty: found by type and name"
    )
    url_column: str | None = Field(
        None,
        description="Parquet column with URLs of pictures, used where none has bytes; empty: found by name",
    )
    caption_column: str | None = Field(
        None, description="Parquet column, or key of a JSON member, with captions; empty: found by name"
    )
    url_concurrency: int = Field(32, ge=1, description="URLs that one reading task fetches at once")
    url_concurrency_per_host: int = Field(4, ge=1, description="of these, at most so many from one host")
    timeout_s: float = Field(30.0, gt=0, description="time limit of one attempt to fetch a URL or an object")
    retries: int = Field(3, ge=0, description="further attempts after no answer, 429 or 5xx")
    backoff_s: float = Field(
        0.5, ge=0, description="wait before the first further attempt, doubled for each one after it"
    )
    max_backoff_s: float = Field(
        60.0, ge=0, description="longest wait before an attempt, also where a server asks for more"
    )
    allow_private_urls: bool = Field(False, description="let URLs of sources point at non-public addresses")
    s3_endpoint: str | None = Field(None, description="URL of an S3 server other than Amazon's")
    s3_region: str | None = Field(None, description="region of the S3 buckets; empty: asked for")
    anonymous: bool = Field(False, description="read S3 and Google buckets without credentials")


class IndexSettings(Group):
    """The batch pipeline."""

    batch_size: int = Field(64, ge=1, description="pictures in one embedding batch")
    encoders: int = Field(1, ge=1, description="embedding actors")
    preparers: int = Field(
        0, ge=0, description="tasks that read and decode at once; 0 takes the cores the encoders leave"
    )
    max_in_flight: int = Field(
        4096, ge=256, description="most pictures that are being worked on and not acknowledged by the store"
    )
    gpus_per_encoder: float = Field(0.0, ge=0, description="GPUs of one embedding actor")
    cpus: float = Field(0.0, ge=0, description="CPUs the job takes; 0 takes all that Ray has, or all cores")
    max_tasks_in_flight: int = Field(2, ge=1, description="batches queued before each embedding actor")
    progress_s: float = Field(
        30.0, ge=0, description="seconds between lines of progress where stderr is no terminal; 0 is for none"
    )
    dashboard: bool = Field(False, description="let the job's own Ray have a dashboard, and say where it is")
    metrics_port: int = Field(
        0, ge=0, le=65535, description="port where the job's own Ray exports metrics; 0 takes a free one"
    )

    @model_validator(mode="after")
    def _check(self) -> IndexSettings:
        if self.gpus_per_encoder > 1 and self.gpus_per_encoder % 1:
            raise ValueError(
                f"gpus_per_encoder {self.gpus_per_encoder:g}: give a share of one GPU, or whole ones"
            )
        return self


class PublishSettings(Group):
    """What a new collection must show before readers see it, and what becomes of those it replaces."""

    min_count_ratio: float = Field(
        0.9, ge=0, description="least size of a new collection, as a share of the one it replaces"
    )
    max_unreachable_ratio: float = Field(
        0.5, ge=0, le=1, description="most pictures that were listed and cannot be reached, as a share of all"
    )
    ann_queries: int = Field(
        50,
        ge=0,
        description="vectors of the collection that ANN and exact search are compared by; 0 leaves it out",
    )
    min_ann_recall: float = Field(
        0.95, ge=0, le=1, description="least recall at 10 of ANN against exact search"
    )
    canaries: Path | None = Field(
        None,
        description='JSON lines `{"text", "images", "within"}`: one of the images must be among the first results',
    )
    eval_file: Path | None = Field(None, description="JSON lines as `image-search eval` takes them")
    min_eval_recall: float = Field(
        0.5, ge=0, le=1, description="least text-to-image recall at 10 on `eval_file`"
    )
    keep: int = Field(2, ge=1, description="replaced collections that are kept for a rollback")


class TracingSettings(Group):
    """Traces of requests, on one machine."""

    endpoint: str | None = Field(
        None,
        pattern=r"^https?://",
        description="URL that spans are sent to, by OTLP over HTTP, as `http://127.0.0.1:4318/v1/traces`; "
        "empty: no tracing",
    )
    sampling_ratio: float = Field(1.0, ge=0, le=1, description="share of the requests that are traced")


class ServeSettings(Group):
    """The servers."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=1, le=65535, description="port of the page and the API")
    max_upload_mb: float = Field(
        20.0, gt=0, description="largest request body, and picture to search with, in megabytes"
    )
    fetch_timeout_s: float = Field(10.0, gt=0, description="time limit for fetching an image_url")
    allow_private_urls: bool = Field(False, description="let image_url point at non-public addresses")
    config: str = Field(
        "local", description="the Serve config: local, gpu (one machine with a GPU), or the path of one"
    )
    text_cache: int = Field(4096, ge=0, description="text vectors that one API replica remembers")
    media_root: Path | None = Field(None, description="where uploads are kept; default: STORE/media")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "WARNING",
        description="of the log files, on one machine: INFO has a line for each request",
    )
    metrics_port: int = Field(
        0, ge=0, le=65535, description="port where metrics are exported, on one machine; 0 takes a free one"
    )
    tracing: TracingSettings = TracingSettings()

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the server."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http://{host}:{self.port}"


class Settings(BaseSettings):
    """The root of all settings; build it once, with `load_settings`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter=DELIMITER, extra="forbid", frozen=True
    )

    store: StoreSettings = StoreSettings()
    model: ModelSettings = ModelSettings()
    image: ImageSettings = ImageSettings()
    source: SourceSettings = SourceSettings()
    index: IndexSettings = IndexSettings()
    publish: PublishSettings = PublishSettings()
    serve: ServeSettings = ServeSettings()

    @model_validator(mode="after")
    def _check(self) -> Settings:
        if self.model.precision == "fp16" and self.model.device == "cpu":
            raise ValueError("precision fp16 needs a GPU: take bf16, fp32 or auto on a CPU")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the YAML file."""
        path = Path(os.environ.get(CONFIG_VARIABLE, CONFIG_FILE))
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, yaml_file=path)

    def changed(self, groups: Mapping[str, Mapping[str, Any]]) -> Settings:
        """These settings with some values of some groups replaced, checked anew.

        Raises:
            UsageError: a value is wrong.
        """
        values = self.model_dump()
        for name, given in groups.items():
            values[name] = {**values[name], **given}
        try:
            return Settings.model_validate(values)
        except ValidationError as error:
            raise _wrong(error) from None

    @property
    def media_root(self) -> Path:
        """The folder that keeps uploaded pictures."""
        return self.serve.media_root or self.store.path / "media"

    @property
    def thumbnails(self) -> Path:
        """The folder that keeps small pictures."""
        return self.store.path / "thumbnails"

    @property
    def own_folders(self) -> tuple[Path, ...]:
        """Folders whose pictures and tables are the product's own: no source of an index run."""
        of_store = (self.store.path / name for name in ("collections", "quarantine"))
        return (*of_store, self.thumbnails, self.media_root)


def load_settings() -> Settings:
    """Settings of this process, from the environment and the YAML file.

    Raises:
        UsageError: a setting is unknown or has a wrong value, or the named file is missing.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    if named and not Path(named).is_file():
        raise UsageError(f"{CONFIG_VARIABLE} names {named}, which is not a file")
    for name in os.environ:  # pydantic-settings looks for names that it knows, and passes over the others
        group, delimiter, _ = name.upper().removeprefix(PREFIX).partition(DELIMITER)
        if name.upper().startswith(PREFIX) and delimiter and group.lower() not in Settings.model_fields:
            raise UsageError(
                f"setting {name}: there is no group {group!r} ({', '.join(Settings.model_fields)})"
            )
    try:
        return Settings()
    except ValidationError as error:
        raise _wrong(error) from None
    except (ValueError, TypeError, OSError, YAMLError) as error:
        raise UsageError(f"settings cannot be read: {str(error).splitlines()[0]}") from None


def _wrong(error: ValidationError) -> UsageError:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "settings"
    return UsageError(f"setting {where}: {first['msg'].removeprefix('Value error, ')}")

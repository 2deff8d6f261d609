"""Settings: flags before environment (``QUAYFLOW_*``) before ``quayflow.toml`` before the defaults here."""

import difflib
import re
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, IPvAnyAddress, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import (
    SettingsError as SettingsSourceError,
)

from devices.filters import fault_of
from devices.vocabulary import DeviceClass
from store.system_words import of_file
from store.value_words import said_of

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

FILE: Final = Path("quayflow.toml")
PREFIX: Final = "QUAYFLOW_"
SECRETS: Final = frozenset({"broker_password", "access_secret", "change_secret"})
"""Settings that are never printed."""

MAX_SHOWN: Final = 200
"""Characters shown of a value that was refused."""


class SettingsFault(NamedTuple):
    """One thing that is wrong with the settings."""

    setting: str
    """Which one; empty where the file cannot be read at all."""
    detail: str
    """What is wrong with it; of a secret without its value."""


class SettingsError(Exception):
    """Settings that cannot be used; the message names each and what is allowed."""

    def __init__(self, message: str, faults: Sequence[SettingsFault] = ()) -> None:
        """``faults`` are what the message says, one by one; without them it is one."""
        super().__init__(message)
        self.faults = tuple(faults) or (SettingsFault("", message),)


class SourceSettings(BaseModel):
    """One table ``[[sources]]``: topic filters, the codec of what comes there, and whose devices speak."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    codec: str
    """Name of a codec, as in `quayflow decode --codec`."""
    filters: tuple[str, ...] = ()
    """Topic filters; OwnTracks and Sparkplug have usual ones."""
    site: str | None = None
    """Site of the devices; by default that of the installation."""
    device_class: DeviceClass = Field(DeviceClass.VEHICLE, alias="class")
    """Class of the devices, where the format does not say."""
    zone: str = ""
    """Offset of times that have no zone, such as +08:00; by default they are taken as UTC and flagged."""


class Settings(BaseSettings):
    """Everything that can be set; each is explained in docs/settings.md."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, toml_file=FILE, extra="forbid", frozen=True
    )

    site: str = Field("CNNGB-DEMO", pattern=r"^[A-Z]{2}[A-Z0-9]{3}-[A-Z0-9]{1,12}$")
    """UN/LOCODE and facility of the simulated or replayed port."""
    data: Path = Path("quayflow-data")
    """Folder of journal, checkpoint and embedded store."""
    worker: str = Field("ingest-1", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$")
    """Name of the ingest worker, unique among those that share a store."""

    host: str = "127.0.0.1"
    """Address on which the API listens."""
    port: int = Field(8080, ge=0, le=65_535)
    """TCP port on which the API listens; 0 takes a free one."""

    access_secret: str | None = Field(None, min_length=16, repr=False)
    """What a broker that asks the API who may do what proves itself with; without it the API answers no broker."""

    change_secret: str | None = Field(None, min_length=16, repr=False)
    """What who changes the registry through the API, or on its page, proves itself with."""
    local_changes: bool = True
    """Whether, without `change_secret` and `secure`, whoever sits at the machine of the API may change the registry."""

    broker_host: str = "127.0.0.1"
    """Name or address of the MQTT broker."""
    broker_port: int = Field(1883, ge=0, le=65_535)
    """TCP port of the broker; 0, for the broker that `demo` and `up` start, takes a free one."""
    broker_username: str | None = None
    """User name at the broker."""
    broker_password: str | None = Field(None, repr=False)
    """Password at the broker."""
    broker_tls: bool = False
    """Whether to speak TLS to the broker."""
    secure: bool = False
    """Whether the broker that `demo` and `up` start asks for credentials and lets each device do only its own."""
    tls: bool = False
    """Whether the broker that `demo` and `up` start speaks TLS, with generated certificates."""
    broker_listen: IPvAnyAddress = ip_address("127.0.0.1")
    """Address on which the broker that `demo` and `up` start listens, besides loopback."""
    broker_ca_file: Path | None = None
    """Certificate authorities to trust instead of the system's, PEM."""
    broker_cert_file: Path | None = None
    """Own certificate for mutual TLS, PEM."""
    broker_key_file: Path | None = None
    """Key of the own certificate, PEM."""
    topic_filters: Annotated[tuple[str, ...], NoDecode] = ("port/#",)
    """Topic filters that ingest subscribes to; in the environment separated by commas."""
    sources: tuple[SourceSettings, ...] = ()
    """Topics that carry foreign formats, such as Sparkplug B; in the environment as JSON."""

    gateway_host: str = "127.0.0.1"
    """Address on which the gateway for terminals listens."""
    jt808_port: int | None = Field(None, ge=0, le=65_535)
    """TCP port for JT/T 808 terminals; 0 takes a free one."""
    jt808_anyone: bool = False
    """Whether JT/T 808 terminals are believed without the code that they were given at registration."""
    jt808_strict: bool = False
    """Whether JT/T 808 messages are refused that break the rules and could be read all the same."""
    teltonika_port: int | None = Field(None, ge=0, le=65_535)
    """TCP port for Teltonika terminals; 0 takes a free one."""
    gateway_connections: int = Field(10_000, ge=1)
    """Connections of terminals beyond this many are closed."""
    gateway_idle_s: float = Field(900.0, gt=0, allow_inf_nan=False)
    """Silence after which a terminal is taken for gone, s."""

    held_messages: int = Field(5_000, ge=1)
    """Messages that ingest holds at most between reading and acknowledging them."""
    held_bytes: int = Field(4 << 20, ge=65_536)
    """The same in bytes, beyond one packet."""

    windows_url: str | None = None
    """Where window rows go: ``sqlite:///path`` or ``influxdb://token@host:port/bucket``; by default the data folder."""
    records_url: str | None = None
    """Where records go: ``sqlite:///path`` or ``postgresql+psycopg://…``; by default the data folder."""

    commit_interval_s: float = Field(1.0, gt=0, le=3_600)
    """Shortest time between two commits to the store, s."""
    keep_10s_days: float = Field(7.0, ge=0, allow_inf_nan=False)
    """How long an embedded store keeps windows of 10 s, days; 0 is for ever."""
    keep_1m_days: float = Field(90.0, ge=0, allow_inf_nan=False)
    """How long an embedded store keeps windows of 1 min, days; 0 is for ever."""
    keep_15m_days: float = Field(730.0, ge=0, allow_inf_nan=False)
    """How long an embedded store keeps windows of 15 min, days; 0 is for ever."""
    keep_1h_days: float = Field(0.0, ge=0, allow_inf_nan=False)
    """How long an embedded store keeps windows of 1 h, days; 0 is for ever."""
    journal_keep_bytes: int = Field(4 << 30, ge=0)
    """Sealed journal segments that are in the store are kept up to this many bytes in total."""
    journal_keep_s: float = Field(7 * 86_400.0, ge=0, allow_inf_nan=False)
    """Sealed journal segments that are in the store are kept up to this age, s."""
    journal_compress: bool = True
    """Whether sealed journal segments are compressed."""
    journal_ballast_bytes: int = Field(64 << 20, ge=0)
    """Space that ingest holds ready for the end of the work at hand when the disk is full; 0 does without."""
    lateness_s: float = Field(2.0, ge=0, le=3_600)
    """How far behind its newest sample a device may deliver in the ordinary course, s."""
    idle_s: float = Field(10.0, gt=0, le=86_400)
    """Silence after which a device's watermark moves on by itself, s."""
    state_hold_s: float = Field(300.0, gt=0, le=3_600)
    """How long a state is believed without a sample of it, s."""
    max_devices: int = Field(20_000, ge=1)
    """Devices that one worker admits; frames of more go to quarantine."""
    shed_below_bytes: int = Field(128 << 20, ge=0)
    """With less free space than this, messages sent at QoS 0 are shed and counted; 0 never."""
    max_site_devices: int = Field(10_000, ge=1)
    """Devices of one site that one worker admits."""
    max_site_series: int = Field(100_000, ge=1)
    """Series of one site that one worker admits."""
    max_series: int = Field(200_000, ge=1)
    """Series that one worker admits; samples of more go to quarantine."""

    registration: Literal["open", "closed"] = "open"
    """Whom sites admit that the registry does not know: every device, or registered ones only."""

    profile: str = "small"
    """Name or file of the simulated port's profile."""
    seed: int = Field(7, ge=0)
    """Seed of the simulated port."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level of what is logged."""

    @field_validator("topic_filters")
    @classmethod
    def _filters_can_be_subscribed_to(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse what no broker takes."""
        if not value:
            raise ValueError("expected at least one topic filter")
        for fault in filter(None, map(fault_of, value)):
            raise ValueError(fault)
        return value

    @field_validator("topic_filters", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Take the comma-separated form of the environment."""
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the sources in order."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @property
    def keep_s(self) -> dict[int, float]:
        """Return tier width in s → retention in s, for the tiers that are not kept for ever."""
        days = {10: self.keep_10s_days, 60: self.keep_1m_days, 900: self.keep_15m_days, 3600: self.keep_1h_days}
        return {tier_s: kept * 86_400 for tier_s, kept in days.items() if kept}

    @property
    def store_urls(self) -> tuple[str, str]:
        """Return where window rows and records go, with the embedded store in place of what is not set."""
        embedded = f"sqlite:///{self.data.absolute() / 'quayflow.db'}"
        return self.windows_url or embedded, self.records_url or embedded


def load(**flags: object) -> Settings:
    """Return the settings with ``flags`` (None means not given) on top; :class:`SettingsError` names what is wrong."""
    if FILE.is_dir():
        raise SettingsError(f"{FILE}: it is a folder, not a file")
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        faults = [
            SettingsFault(".".join(map(str, each["loc"])), f"{_said(each)} (got {_shown(each['loc'], each['input'])})")
            for each in error.errors()
        ]
        lines = "\n".join(f"  {fault.setting}: {fault.detail}" for fault in faults)
        raise SettingsError(f"settings cannot be used:\n{lines}", faults) from None
    except OSError as error:
        raise SettingsError(f"{FILE}: {of_file(error, FILE)}") from None
    except SettingsSourceError as error:
        # It names the field and says that its source is the environment, and what was given might be a secret.
        name = next(iter(re.findall(r'field "(\w+)"', str(error))), "")
        raise SettingsError(f"QUAYFLOW_{name.upper()}: it is no JSON, which is expected there") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{FILE}: it is no text in UTF-8") from None
    except ValueError as error:
        raise SettingsError(f"{FILE}: it is no TOML: {error}") from None


def _said(fault: "ErrorDetails") -> str:
    """Return what is wrong with a value; of a setting that does not exist, which one may be meant."""
    if fault["type"] != "extra_forbidden":
        return said_of([fault])
    near = difflib.get_close_matches(str(fault["loc"][-1]), Settings.model_fields, 1)
    return f"there is no such setting{f'; did you mean {near[0]}?' if near and len(fault['loc']) == 1 else ''}"


def _shown(where: tuple[int | str, ...], given: object) -> str:
    """Return a value that was refused, the begin of a long one, unless it is nobody's business."""
    if where and where[0] in SECRETS:
        return "what is not shown"
    text = repr(given)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"

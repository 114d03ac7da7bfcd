"""Settings: the file, the variables over it, secrets from files, and faults that are named."""

import re
from dataclasses import asdict
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from worker import settings
from worker.libsafe.routes import Routes

CONFIG = Path(__file__).parents[2] / "config" / "worker.toml"


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Begin with no file and no variable."""
    monkeypatch.chdir(tmp_path)


def test_without_file_and_variables_the_defaults_count() -> None:
    """Nothing has to be set."""
    assert settings.load().hashing.slot_bytes == 4 * 1024 * 1024


def test_the_file_that_is_shipped_says_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """config/worker.toml is documentation too, so it may not drift."""
    monkeypatch.setenv("HASH_WORKER_CONFIG", str(CONFIG))
    from_file = settings.load()
    monkeypatch.delenv("HASH_WORKER_CONFIG")

    assert from_file == settings.load()


def test_the_file_that_is_shipped_names_every_setting() -> None:
    """Whoever reads the file has seen all there is, commented out or not."""
    text = CONFIG.read_text(encoding="utf-8")
    sections = [settings.StorageSettings] + [
        field.annotation
        for field in settings.Settings.model_fields.values()
        if isinstance(field.annotation, type) and field.annotation is not dict
    ]

    missing = [
        name
        for section in sections
        for name in section.model_fields
        if f"{name} =" not in text and f"[api.{name}]" not in text
    ]

    assert missing == []


def test_the_file_that_is_shipped_shows_every_template_with_its_default() -> None:
    """Routes and the rule for keys are commented out, so nothing else would notice that they drift."""
    section = CONFIG.read_text(encoding="utf-8").partition("[api.routes]\n")[2].partition("\n[")[0]

    shown = dict(re.findall(r'^# (\w+) = "(.+?)"', section, re.MULTILINE))

    assert shown == asdict(Routes())


def test_a_variable_overrides_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Variables win, one value at a time."""
    (tmp_path / "w.toml").write_text("[hashing]\nlanes = 3\nslots = 9\n", encoding="utf-8")
    monkeypatch.setenv("HASH_WORKER_CONFIG", str(tmp_path / "w.toml"))
    monkeypatch.setenv("HASH_WORKER_HASHING__LANES", "5")

    loaded = settings.load()

    assert (loaded.hashing.lanes, loaded.hashing.slots) == (5, 9)


def test_a_secret_comes_from_the_file_that_its_variable_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`…_FILE` holds a path; the line break at its end is not part of the secret."""
    (tmp_path / "secret").write_text("redis://:opensesame@broker:6379/0\n", encoding="utf-8")
    monkeypatch.setenv("HASH_WORKER_BROKER__URL_FILE", str(tmp_path / "secret"))

    loaded = settings.load()

    assert loaded.broker.url.get_secret_value() == "redis://:opensesame@broker:6379/0"
    assert "opensesame" not in repr(loaded)


def test_a_storage_is_found_by_its_id_and_else_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """`default` serves every id that has no table of its own."""
    for storage_id in ("7", "default"):
        monkeypatch.setenv(f"HASH_WORKER_STORAGES__{storage_id}__ACCESS_KEY", f"key of {storage_id}")
        monkeypatch.setenv(f"HASH_WORKER_STORAGES__{storage_id}__SECRET_KEY", "s")

    loaded = settings.load()
    found = [loaded.storage(storage_id) for storage_id in ("7", "8")]

    assert [storage and storage.access_key for storage in found] == ["key of 7", "key of default"]


def test_the_case_of_a_storage_id_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of a variable has no case, and the platform's id may have one."""
    monkeypatch.setenv("HASH_WORKER_STORAGES__Prod__ACCESS_KEY", "a")
    monkeypatch.setenv("HASH_WORKER_STORAGES__Prod__SECRET_KEY", "s")

    found = settings.load().storage("Prod")

    assert found is not None
    assert found.access_key == "a"


def test_a_storage_id_in_capitals_is_refused_in_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else a table and the variables for its secrets would be two storages."""
    text = '[storages.Prod]\naccess_key = "a"\nsecret_key = "s"\n'
    (tmp_path / "w.toml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("HASH_WORKER_CONFIG", str(tmp_path / "w.toml"))

    with pytest.raises(settings.SettingsError, match="storages: write Prod in lower case"):
        settings.load()


@pytest.mark.parametrize(
    "url",
    [
        "redis://broker",
        "redis://broker:6379/0",
        "redis://[::1]:6379/15",
        "redis://user:pa%2Fss%23word@broker:6379/0",
        "rediss://:password@broker:6380/0?ssl_cert_reqs=required&ssl_check_hostname=false",
        "rediss://broker?ssl_certfile=/run/secrets/certificate",
    ],
)
def test_the_address_of_a_broker_is_taken(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Valkey and Redis, with TLS or without, as kombu and redis-py read it."""
    monkeypatch.setenv("HASH_WORKER_BROKER__URL", url)

    assert settings.load().broker.url.get_secret_value() == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "amqp://:hunter2@broker/0",
        "REDIS://:hunter2@broker/0",
        "redis://:hunter2@",
        "redis://:hunter2@:6379/0",
        "redis://:hunter2@broker:port/0",
        "redis://:hunter2@broker:65536/0",
        "redis://:hunter2@broker/zero",
        "redis://:hunter2@broker/0?db=zero",
        "redis://:hunter2@broker/0\n",
        "redis://:hunter2@[::1/0",
        "redis://:hunter2@valkey..example:6379/0",
        "redis://:hun/ter2@broker:6379/0",
        "redis://:hun#ter2@broker:6379/0",
        "redis://:hun?ter2@broker:6379/0",
        "redis://user:12/hunter2@broker:6379/0",
        "redis://user:12?hunter2@broker:6379/0",
    ],
)
def test_what_is_no_address_of_a_broker_is_refused_and_not_quoted(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """It holds a password; Celery and redis-py would quote the half that they take for a port."""
    monkeypatch.setenv("HASH_WORKER_BROKER__URL", url)

    with pytest.raises(settings.SettingsError, match=r"broker\.url: must be redis://") as caught:
        settings.load()

    assert "hun" not in str(caught.value)
    assert "ter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("rediss://broker?ssl_foo=1", "has no option ssl_foo; there are ssl_ca_certs, "),
        ("redis://broker?ssl_cert_reqs=none", "ssl_cert_reqs is for TLS: begin with rediss://"),
        ("rediss://broker?ssl_cert_reqs=CERT_NONE", "ssl_cert_reqs must be required or optional or none"),
        ("rediss://broker?ssl_ca_certs=/none.pem", "/none.pem can't be read: No such file or directory"),
        (f"rediss://broker?ssl_ca_certs={CONFIG}", "worker.toml is none"),
    ],
)
def test_an_option_of_the_broker_that_cannot_be_used_is_told(
    monkeypatch: pytest.MonkeyPatch, url: str, told: str
) -> None:
    """Celery and redis-py would fail on it with a traceback, each in its own way."""
    monkeypatch.setenv("HASH_WORKER_BROKER__URL", url)

    with pytest.raises(settings.SettingsError, match=r"broker\.url: ") as caught:
        settings.load()

    assert told in str(caught.value)


@pytest.mark.parametrize(
    "hosts",
    [
        ["https://go.example.org"],
        ["go.example.org/"],
        [""],
        ["go.example.org", "go.example.org:70000"],
        ["go.example.org:"],
        ["user@go.example.org"],
        ["*.example.org"],
        ["go.example.org "],
    ],
)
def test_what_is_no_host_of_a_platform_is_refused(hosts: list[str]) -> None:
    """It would be met by no payload, and each be refused without a word about the setting."""
    with pytest.raises(
        settings.SettingsError, match=r'api\.allowed_hosts: each must be like "go.example.org"'
    ):
        settings.load(api={"allowed_hosts": hosts})


@pytest.mark.parametrize("host", ["go.example.org", "GO.example.org:8443", "localhost", "[::1]:8000"])
def test_a_host_of_a_platform_is_taken_with_or_without_its_port(host: str) -> None:
    """As addresses of payloads are compared with it."""
    assert settings.load(api={"allowed_hosts": [host]}).api.allowed_hosts == (host,)


@pytest.mark.parametrize(
    ("verify_tls", "told"),
    [
        ("flase", "flase can't be read: No such file or directory"),
        ("/none.pem", "/none.pem can't be read: No such file or directory"),
        (str(CONFIG), "worker.toml is none"),
    ],
)
def test_what_is_no_bundle_of_certificates_is_told_with_its_setting(
    monkeypatch: pytest.MonkeyPatch, verify_tls: str, told: str
) -> None:
    """A slip in `false` would else be the name of a file, and fail with the first job."""
    for name, value in {"ACCESS_KEY": "a", "SECRET_KEY": "s", "VERIFY_TLS": verify_tls}.items():
        monkeypatch.setenv(f"HASH_WORKER_STORAGES__1__{name}", value)

    with pytest.raises(
        settings.SettingsError, match=r"storages\.1\.verify_tls: must be true, false or"
    ) as caught:
        settings.load()

    assert told in str(caught.value)


@pytest.mark.parametrize("region", ["", "eu west", "eu_west", "-eu", "eu-", "e" * 64])
def test_a_region_that_none_can_be_is_refused(monkeypatch: pytest.MonkeyPatch, region: str) -> None:
    """It becomes part of a host's name."""
    monkeypatch.setenv("HASH_WORKER_STORAGES__1__ACCESS_KEY", "a")
    monkeypatch.setenv("HASH_WORKER_STORAGES__1__SECRET_KEY", "s")
    monkeypatch.setenv("HASH_WORKER_STORAGES__1__REGION", region)

    with pytest.raises(settings.SettingsError, match=r"storages\.1\.region: must be"):
        settings.load()


def test_only_the_variables_that_have_to_be_json_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain texts and numbers beside them are innocent."""
    monkeypatch.setenv("HASH_WORKER_API__ALLOWED_HOSTS", "go.example.org")
    monkeypatch.setenv("HASH_WORKER_LOG__LEVEL", "INFO")
    monkeypatch.setenv("HASH_WORKER_BROKER__URL", "redis://broker/0")

    with pytest.raises(settings.SettingsError, match=r"JSON in HASH_WORKER_API__ALLOWED_HOSTS\.$"):
        settings.load()


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("HASH_WORKER_HASHING__LANEZ", "4", "hashing.lanez: there is no such setting"),
        ("HASH_WORKER_HASH__LANES", "4", "HASH_WORKER_HASH__LANES: there is no such setting"),
        ("HASH_WORKER_HASHING__LANES", "-1", "hashing.lanes: Input should be greater than or equal to 0"),
        ("HASH_WORKER_HASHING__SLOTS", "many", "hashing.slots: "),
        ("HASH_WORKER_API__ALLOWED_HOSTS", "go.example.org", "JSON in HASH_WORKER_API__ALLOWED_HOSTS"),
        ("HASH_WORKER_HASHING__ALGORITHMS", "[]", "hashing.algorithms: "),
        ("HASH_WORKER_STORAGES__1__ACCESS_KEY", "a", "storages.1.secret_key: Field required"),
        ("HASH_WORKER_CONFIG", "nowhere.toml", "nowhere.toml, and there is no such file"),
        ("HASH_WORKER_CONFIG", "x" * 300, "can't be read: File name too long"),
        ("HASH_WORKER_BROKER__URL_FILE", "nowhere", "HASH_WORKER_BROKER__URL_FILE: the file nowhere"),
    ],
)
def test_an_unknown_or_impossible_setting_is_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, named: str
) -> None:
    """A slip in a setting stops the worker at its start, not in the night."""
    monkeypatch.setenv(variable, value)

    with pytest.raises(settings.SettingsError) as caught:
        settings.load()

    assert named in str(caught.value)


def test_all_faults_are_told_at_once_and_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of variables, files and values; what is missing only because its file is away is told once."""
    wrong = {
        "HASH__LANES": "4",
        "API__ALLOWED_HOSTS": "go.example.org",
        "STORAGES__1__ACCESS_KEY": "a",
        "STORAGES__1__SECRET_KEY_FILE": "/none",
        "HASHING__LANES": "-1",
        "GATEWAY__PORT": "65536",
    }
    for name, value in wrong.items():
        monkeypatch.setenv(f"HASH_WORKER_{name}", value)

    with pytest.raises(settings.SettingsError) as caught:
        settings.load()

    assert [re.split(r": |\.$", fault)[0] for fault in caught.value.faults] == [
        "a list or a table is written as JSON in HASH_WORKER_API__ALLOWED_HOSTS",
        "HASH_WORKER_HASH__LANES",
        "HASH_WORKER_STORAGES__1__SECRET_KEY_FILE",
        "hashing.lanes",
        "gateway.port",
    ]
    assert all(fault in str(caught.value) for fault in caught.value.faults)


@pytest.mark.parametrize(
    ("variable", "setting"),
    [
        ("BROKER__PASSWORD_FILE", "broker.password"),
        ("GATEWAY__TOKEN_FILE", "gateway.token"),
        ("FLOWER__PASSWORD_FILE", "flower.password"),
    ],
)
def test_a_secret_of_two_lines_is_refused_and_one_with_the_line_end_of_windows_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, setting: str
) -> None:
    """The broker reads the same file, and only its first line."""
    secret = tmp_path / "secret"
    secret.write_bytes(b" opensesame-0123456789\r\n")
    monkeypatch.setenv(f"HASH_WORKER_{variable}", str(secret))
    loaded = settings.load().model_dump()
    section, name = setting.split(".")
    assert loaded[section][name].get_secret_value() == "opensesame-0123456789"
    secret.write_bytes(b"opensesame-0123456789\r\nanother\r\n")

    with pytest.raises(settings.SettingsError, match=f"{setting}: must be one line") as caught:
        settings.load()

    assert "opensesame" not in str(caught.value)


def test_a_wrong_secret_is_not_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the setting and keeps the value to itself."""
    monkeypatch.setenv("HASH_WORKER_STORAGES__1__SECRET_KEY", '["hunter2"]')

    with pytest.raises(settings.SettingsError) as caught:
        settings.load()

    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_no_toml_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A broken file gets one sentence with its path."""
    (tmp_path / "w.toml").write_text("[hashing\n", encoding="utf-8")
    monkeypatch.setenv("HASH_WORKER_CONFIG", str(tmp_path / "w.toml"))

    with pytest.raises(settings.SettingsError, match=r"w\.toml"):
        settings.load()


def test_a_file_that_is_not_utf_8_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """TOML is UTF-8; a file in another encoding gets one sentence with its path."""
    (tmp_path / "w.toml").write_text("# Schlüssel\n", encoding="latin-1")
    monkeypatch.setenv("HASH_WORKER_CONFIG", str(tmp_path / "w.toml"))

    with pytest.raises(settings.SettingsError, match=r"w\.toml can't be read: it is not UTF-8"):
        settings.load()


@pytest.mark.parametrize("name", ["lease_seconds", "pause_seconds"])
def test_times_that_would_deliver_messages_twice_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A message that waits for as long as nobody may hold it comes again meanwhile."""
    monkeypatch.setenv("HASH_WORKER_BROKER__VISIBILITY_TIMEOUT_SECONDS", "100")
    monkeypatch.setenv(f"HASH_WORKER_WORKER__{name.upper()}", "99.9")
    settings.load()
    monkeypatch.setenv(f"HASH_WORKER_WORKER__{name.upper()}", "100")

    with pytest.raises(settings.SettingsError, match=f"Wrong settings: worker.{name} must be less than "):
        settings.load()


@pytest.mark.parametrize("password", ["opensesame", "a/b#c?d@e:f%2F é"])
def test_the_brokers_password_is_put_into_its_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, password: str
) -> None:
    """As a file holds it, so that the broker and the worker can read the same one."""
    (tmp_path / "secret").write_text(f"{password}\n", encoding="utf-8")
    monkeypatch.setenv("HASH_WORKER_BROKER__URL", "rediss://broker:6379/3")
    monkeypatch.setenv("HASH_WORKER_BROKER__PASSWORD_FILE", str(tmp_path / "secret"))

    broker = settings.load().broker

    parts = urlsplit(broker.address)
    assert (parts.scheme, parts.hostname, parts.port, parts.path) == ("rediss", "broker", 6379, "/3")
    assert unquote(parts.password or "") == password
    assert password not in repr(broker)


def test_a_user_may_stand_in_the_url_and_the_password_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ACL user's name is no secret."""
    monkeypatch.setenv("HASH_WORKER_BROKER__URL", "redis://hash%40worker@broker:6379/0")
    monkeypatch.setenv("HASH_WORKER_BROKER__PASSWORD", "a@b")

    assert settings.load().broker.address == "redis://hash%40worker:a%40b@broker:6379/0"


def test_a_password_in_the_url_and_beside_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could say which of the two counts."""
    monkeypatch.setenv("HASH_WORKER_BROKER__URL", "redis://:one@broker:6379/0")
    monkeypatch.setenv("HASH_WORKER_BROKER__PASSWORD", "two")

    with pytest.raises(
        settings.SettingsError, match="broker: the password stands in url and in password; leave one"
    ):
        settings.load()

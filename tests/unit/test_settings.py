"""Settings: the file, the variables over it, secrets from files, and faults that are named."""

from pathlib import Path

import pytest

from worker import settings

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
    (tmp_path / "secret").write_text("redis://:pass@broker:6379/0\n", encoding="utf-8")
    monkeypatch.setenv("HASH_WORKER_BROKER__URL_FILE", str(tmp_path / "secret"))

    loaded = settings.load()

    assert loaded.broker.url.get_secret_value() == "redis://:pass@broker:6379/0"
    assert "pass" not in repr(loaded)


def test_a_storage_is_found_by_its_id_and_else_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """`default` serves every id that has no table of its own."""
    for storage_id in ("7", "default"):
        monkeypatch.setenv(f"HASH_WORKER_STORAGES__{storage_id}__ACCESS_KEY", f"key of {storage_id}")
        monkeypatch.setenv(f"HASH_WORKER_STORAGES__{storage_id}__SECRET_KEY", "s")

    loaded = settings.load()
    found = [loaded.storage(storage_id) for storage_id in ("7", "8")]

    assert [storage and storage.access_key for storage in found] == ["key of 7", "key of default"]


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("HASH_WORKER_HASHING__LANEZ", "4", "hashing.lanez: there is no such setting"),
        ("HASH_WORKER_HASH__LANES", "4", "HASH_WORKER_HASH__LANES: there is no such setting"),
        ("HASH_WORKER_HASHING__LANES", "-1", "hashing.lanes: Input should be greater than or equal to 0"),
        ("HASH_WORKER_HASHING__SLOTS", "many", "hashing.slots: "),
        ("HASH_WORKER_API__ALLOWED_HOSTS", "go.example.org", "JSON in HASH_WORKER_API__ALLOWED_HOSTS"),
        ("HASH_WORKER_STORAGES__1__ACCESS_KEY", "a", "storages.1.secret_key: Field required"),
        ("HASH_WORKER_CONFIG", "nowhere.toml", "nowhere.toml, and there is no such file"),
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

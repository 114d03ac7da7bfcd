import pytest

from worker.libsafe.errors import NotFoundError
from worker.libsafe.routes import Routes


def test_an_id_is_percent_encoded_whole() -> None:
    """An id is one segment, whatever is in it."""
    assert Routes().path("file_hash", file_id="a/b?c#d%e é") == "/api/file/a%2Fb%3Fc%23d%25e%20%C3%A9/hash"


def test_a_path_is_percent_encoded_but_for_its_slashes() -> None:
    """A path's segments stay segments."""
    path = Routes().path("container_file_by_path", container_id="1", path="a b/50%+#?.txt/é")

    assert path == "/api/container/1/file/path/a%20b/50%25%2B%23%3F.txt/%C3%A9"


def test_braces_in_a_value_stay_braces() -> None:
    """A value is never taken for a template."""
    path = Routes().path("container_file_by_path", container_id="{path}", path="{container_id}")

    assert path == "/api/container/%7Bpath%7D/file/path/%7Bcontainer_id%7D"


@pytest.mark.parametrize("path", ["..", ".", "a/../b", "./a", "a/."])
def test_a_dot_segment_names_nothing(path: str) -> None:
    """A segment of dots would lead the request to another place."""
    with pytest.raises(NotFoundError, match="correct it"):
        Routes().path("container_file_by_path", container_id="1", path=path)


def test_dots_in_a_name_are_a_name() -> None:
    """Only a whole segment of one or two dots moves."""
    path = Routes().path("container_file_by_path", container_id="1", path="...a/..b/c..")

    assert path == "/api/container/1/file/path/...a/..b/c.."


def test_an_id_of_dots_names_nothing() -> None:
    """The same goes for an id."""
    with pytest.raises(NotFoundError):
        Routes().path("file", file_id="..")


@pytest.mark.parametrize(
    ("templates", "named"),
    [
        ({"job": "/api/job/{id}"}, "job has the unknown field {id}; it may have job_id"),
        ({"job": "/api/job/{job_id.__class__}"}, "unknown field {job_id.__class__}"),
        ({"job": "/api/job/{}"}, "job has the unknown field {}"),
        ({"file": "/api/file/{file_id}/{job_id}"}, "file has the unknown field {job_id}"),
        ({"object_key": "{prefix}{path}"}, "object_key has the unknown field {prefix}"),
        ({"job": "/api/job"}, "job lacks the field {job_id}"),
        ({"container_file_by_path": "/api/{container_id}"}, "container_file_by_path lacks the field {path}"),
        ({"job": "api/job/{job_id}"}, "job must begin with a slash"),
        ({"job": "/api/{job_id"}, "job cannot be read"),
        ({"object_key": "{key_prefix}{container_id}"}, "all files would share one object"),
    ],
)
def test_a_wrong_template_is_an_error_that_names_it(templates: dict[str, str], named: str) -> None:
    """A slip in the settings is seen at the start."""
    with pytest.raises(ValueError, match="template") as caught:
        Routes(**templates)

    assert named in str(caught.value)


def test_a_template_may_be_another() -> None:
    """What the vendor has not published can be set."""
    routes = Routes(job="/v9/task/{job_id}", object_key="{container_id}/{file_id}")

    assert routes.path("job", job_id="299") == "/v9/task/299"
    assert routes.key_of_object(key_prefix="p/", container_id="1", file_id="7", path="a") == "1/7"


def test_an_objects_key_is_prefix_and_path_and_nothing_is_encoded() -> None:
    """S3 keys are taken as they are; the client of S3 encodes them."""
    key = Routes().key_of_object(key_prefix="data/", container_id="1", file_id="7", path="a b/50%{x}.txt")

    assert key == "data/a b/50%{x}.txt"

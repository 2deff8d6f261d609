"""Who has an answer already that seldom changes is told so, and everybody else is sent it."""

from pathlib import Path

import pytest
from made_port import MadePort, client_of

SELDOM = ["/v1/vocabulary", "/openapi.json", "/asyncapi.json", "/v1/registry/zone"]


@pytest.mark.parametrize("path", SELDOM)
def test_an_answer_that_is_known_is_not_sent_again(path: str, tmp_path: Path) -> None:
    with client_of(MadePort(tmp_path)) as client:
        first = client.get(path)
        tag = first.headers["etag"]
        assert first.status_code == 200
        assert first.headers["cache-control"] == "no-cache"
        for known in (tag, f'"other", {tag}', tag.removeprefix("W/"), "*"):
            again = client.get(path, headers={"If-None-Match": known})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
            assert "content-type" not in again.headers
            assert again.headers["x-content-type-options"] == "nosniff"
        for unknown in ('"other"', 'W/""', tag[:-2] + '"', "nonsense"):
            sent = client.get(path, headers={"If-None-Match": unknown})
            assert (sent.status_code, sent.content) == (200, first.content)
        plain = client.get(path, headers={"Accept-Encoding": "identity"})
        assert plain.headers["etag"] == tag
        head = client.request("HEAD", path, headers={"If-None-Match": tag})
        assert (head.status_code, head.content) == (304, b"")
        assert client.request("HEAD", path).headers["etag"] == tag


def test_a_refusal_and_what_changes_all_the_time_have_no_tag(tmp_path: Path) -> None:
    with client_of(MadePort(tmp_path)) as client:
        for path, status in (("/v1/vocabulary?x=1", 422), ("/v1/registry/nothing", 422), ("/v1/ledger", 200)):
            answer = client.get(path, headers={"If-None-Match": "*"})
            assert (answer.status_code, "etag" in answer.headers) == (status, False)
            assert answer.headers["cache-control"] == "no-store"


def test_the_page_is_not_sent_again_either(tmp_path: Path) -> None:
    port = MadePort(tmp_path)
    port.static.mkdir(exist_ok=True)
    (port.static / "index.html").write_text("<!doctype html>")
    with client_of(port) as client:
        first = client.get("/")
        assert client.get("/", headers={"If-None-Match": first.headers["etag"]}).status_code == 304

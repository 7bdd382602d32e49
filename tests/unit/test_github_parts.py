"""What publishing to GitHub decides without GitHub: where things lie, how long to wait, whose lock it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lading.errors import (
    ConfigError,
    CredentialsRefused,
    DestinationMissing,
    LadingError,
    PermissionMissing,
    SourceUnreachable,
    Unavailable,
)
from lading.fetch.github import GitHubSource
from lading.manifest.github_layout import (
    BODY_LIMIT,
    AssetPlace,
    GitHubRepository,
    asset_place,
    keeps_its_name,
    parse_address,
    repository_at,
)
from lading.manifest.names import (
    checksum_name,
    component_name,
    core_archive_name,
    index_name,
    libs_archive_name,
    patch_name,
    volume_name,
)
from lading.publish.github_errors import error_of, refusal_of
from lading.publish.github_limits import budget_of, pause_of
from lading.publish.github_lock import LEASE, Holder, may_take_over, process_lives, this_holder
from lading.publish.github_releases import MARK, release_text

OURS = GitHubRepository(name="owner/name")

# -- where things lie


@pytest.mark.parametrize(
    ("path", "tag"),
    [
        ("assets/core/0.1.0/my-app-core-0.1.0-cu126-linux-x86_64.tar.zst", "my-app-core-0.1.0-cu126-linux-x86_64"),
        ("assets/core/0.1.0/my-app-core-0.1.0-cpu-windows-x86_64.json", "my-app-core-0.1.0-cpu-windows-x86_64"),
        (
            "assets/core/0.1.1/my-app-core-0.1.1-cpu-linux-x86_64-from-0.1.0.patch.sha256",
            "my-app-core-0.1.1-cpu-linux-x86_64",
        ),
        (
            "assets/libs/cu126-v2/my-app-libs-cu126-v2-linux-x86_64.tar.zst.003.sha256",
            "my-app-libs-cu126-v2-linux-x86_64",
        ),
        (
            "assets/libs/cu126-v2/my-app-libs-cu126-v2-linux-x86_64-from-cu126-v1.patch.sha256",
            "my-app-libs-cu126-v2-linux-x86_64-from-cu126-v1",
        ),
        ("assets/core/0.1.0/a-core-core-0.1.0-cu126-linux-x86_64.tar.zst", "a-core-core-0.1.0-cu126-linux-x86_64"),
    ],
)
def test_an_assets_release_follows_from_its_path(path: str, tag: str) -> None:
    assert asset_place(path) == AssetPlace(tag=tag, name=path.rpartition("/")[2])


@pytest.mark.parametrize(
    "path",
    [
        "metadata/timestamp.json",
        "targets/channels/my-app/d.stable.json",
        "assets/core/0.1.0/other.txt",
        "assets/core/0.2.0/my-app-core-0.1.0-cu126-linux-x86_64.json",
        "assets/core/0.1.0/my-app-core-0.1.0-cu126-plan9.json",
        "assets/core/my-app-core-0.1.0-cu126-linux-x86_64.json",
        "",
    ],
)
def test_what_is_no_asset_lies_on_the_branch(path: str) -> None:
    assert asset_place(path) is None


APPS = st.from_regex(r"[a-z][a-z0-9]{0,8}(?:[-_][a-z0-9]{1,8}){0,3}", fullmatch=True)
VERSIONS = st.from_regex(r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}(?:rc[0-9]{1,2})?", fullmatch=True)
LABELS = st.from_regex(r"[a-z0-9]{1,6}-v[1-9][0-9]?", fullmatch=True)


@given(
    app=APPS, version=VERSIONS, older=VERSIONS, flavor=st.sampled_from(["cpu", "cu126", "cu128_nightly"]), label=LABELS
)
def test_all_of_a_component_is_one_release_and_no_name_is_renamed(
    app: str, version: str, older: str, flavor: str, label: str
) -> None:
    core = core_archive_name(app, version, flavor, "linux-x86_64")
    libs = libs_archive_name(app, label, "windows-x86_64")
    tags: list[set[str]] = []
    for component, number, archive in (("core", version, core), ("libs", label, libs)):
        names = [volume_name(archive, 1, 1), volume_name(archive, 2, 3), index_name(archive), component_name(archive)]
        names += [patch_name(archive, older)] if component == "core" else []
        names += [checksum_name(name) for name in names]
        places = [asset_place(f"assets/{component}/{number}/{name}") for name in names]
        assert all(keeps_its_name(name) for name in names)
        tags.append({place.tag for place in places if place is not None})
        assert None not in places
    assert tags == [{core.removesuffix(".tar.zst")}, {libs.removesuffix(".tar.zst")}]


@pytest.mark.parametrize("name", ["a~b", "a b", ".a", "a.", "a/b", "ä", ""])
def test_names_that_github_would_change_are_known(name: str) -> None:
    assert not keeps_its_name(name)


@pytest.mark.parametrize(
    ("text", "web"),
    [
        ("github:owner/name", "https://github.com"),
        ("https://github.com/owner/name", "https://github.com"),
        ("https://github.com/owner/name.git", "https://github.com"),
        ("HTTPS://GitHub.com/owner/name/releases/", "https://github.com"),
        ("github:https://git.example.com/owner/name/", "https://git.example.com"),
    ],
)
def test_addresses_of_repositories_are_understood(text: str, web: str) -> None:
    found = parse_address(text)
    assert found == GitHubRepository(name="owner/name", web=web)
    assert parse_address(found.address) == found


@pytest.mark.parametrize(
    "text",
    [
        "/srv/store",
        "store",
        "https://example.com/owner/name",
        "https://github.com/owner",
        "https://github.com/o/n/tree/x",
    ],
)
def test_other_sources_are_left_to_others(text: str) -> None:
    assert parse_address(text) is None


@pytest.mark.parametrize("text", ["github:", "github:owner", "github:a/b/c", "github:ftp://host/o/n", "github:../x"])
def test_a_repository_that_cannot_be_one_is_told(text: str) -> None:
    with pytest.raises(SourceUnreachable, match="not a repository on GitHub"):
        parse_address(text)


def test_an_enterprise_server_is_known_by_its_api() -> None:
    ours = repository_at("https://git.example.com/api/v3/", "owner/name")
    assert (ours.web, ours.api) == ("https://git.example.com", "https://git.example.com/api/v3")
    assert repository_at(None, "owner/name") == repository_at("https://api.github.com", "owner/name") == OURS


def test_clients_read_releases_and_raw_files_and_never_the_api() -> None:
    source = GitHubSource(OURS)
    assert source.describe("metadata/timestamp.json") == (
        "https://raw.githubusercontent.com/owner/name/lading-metadata/metadata/timestamp.json"
    )
    assert source.describe("assets/libs/cu126-v1/app-libs-cu126-v1-linux-x86_64.json") == (
        "https://github.com/owner/name/releases/download/app-libs-cu126-v1-linux-x86_64/"
        "app-libs-cu126-v1-linux-x86_64.json"
    )
    source.close()


# -- how long to wait


LIMIT = {"x-ratelimit-limit": "5000", "x-ratelimit-reset": "1767225660"}
DATE = {"date": "Thu, 01 Jan 2026 00:00:00 GMT"}  # 1767225600


@pytest.mark.parametrize(
    ("status", "headers", "message", "times", "seconds"),
    [
        pytest.param(200, LIMIT | {"x-ratelimit-remaining": "0"} | DATE, "", 0, None, id="success"),
        pytest.param(403, {"retry-after": "9"}, "", 3, 9.0, id="asked"),
        pytest.param(
            429, LIMIT | {"x-ratelimit-remaining": "0", "retry-after": "9"} | DATE, "", 0, 9.0, id="asked-first"
        ),
        pytest.param(403, LIMIT | {"x-ratelimit-remaining": "0"} | DATE, "", 0, 61.0, id="reset"),
        pytest.param(403, LIMIT | {"x-ratelimit-remaining": "3"} | DATE, "Forbidden", 0, None, id="refusal"),
        pytest.param(403, {}, "You have exceeded a secondary rate limit", 0, 60.0, id="secondary"),
        pytest.param(429, {}, "", 2, 240.0, id="secondary-again"),
        pytest.param(500, {"retry-after": "9"}, "", 0, None, id="server-error"),
    ],
)
def test_the_pause_is_what_github_asks_for(
    status: int, headers: dict[str, str], message: str, times: int, seconds: float | None
) -> None:
    assert pause_of(status, headers, message, times) == seconds


def test_the_budget_is_shown_with_its_reset() -> None:
    assert str(budget_of(LIMIT | {"x-ratelimit-remaining": "12"})) == "12 of 5000 requests left until 00:01 UTC"
    assert budget_of({}) is None


# -- what a refusal means


@pytest.mark.parametrize(
    ("status", "message", "writing", "error", "code"),
    [
        (401, "Bad credentials", False, CredentialsRefused, 17),
        (403, "Resource not accessible by integration", True, PermissionMissing, 18),
        (404, "Not Found", True, PermissionMissing, 18),
        (404, "Not Found", False, DestinationMissing, 22),
        (301, "Moved Permanently", False, ConfigError, 19),
        (409, "Git Repository is empty.", True, ConfigError, 19),
        (422, "Validation Failed", True, Unavailable, 29),
    ],
)
def test_a_refusal_is_told_in_plain_words(
    status: int,
    message: str,
    writing: bool,  # noqa: FBT001 (a table's column)
    error: type[LadingError],
    code: int,
) -> None:
    found = error_of(refusal_of(status, {"message": message}), OURS, "doing it", writing=writing)
    assert (type(found), found.exit_code) == (error, code)
    assert message in found.what
    assert found.usually
    assert found.todo


@pytest.mark.parametrize(
    "body",
    ["<html>a proxy</html>", [], {"message": None, "errors": "text"}, {"errors": [1, {"code": "x"}]}, {"errors": [[]]}],
)
def test_a_refusal_in_any_form_can_be_read(body: object) -> None:
    assert refusal_of(500, body).said.startswith("500")


def test_what_is_wrong_with_a_field_is_found() -> None:
    refusal = refusal_of(422, {"message": "Validation Failed", "errors": [{"code": "already_exists", "field": "name"}]})
    assert refusal.has("already_exists", "name")
    assert not refusal.has("already_exists", "tag_name")
    assert refusal.said == "422 Validation Failed (name already_exists)"


# -- whose lock it is


def holder(**changes: object) -> Holder:
    return Holder(machine="m", pid=1, born=1, nonce="n").model_copy(update=changes)


@pytest.mark.parametrize(
    ("there", "age", "lives", "taken"),
    [
        pytest.param(holder(), 0.0, True, False, id="alive"),
        pytest.param(holder(), 0.0, False, True, id="dead-here"),
        pytest.param(holder(machine="other"), 0.0, False, False, id="elsewhere"),
        pytest.param(holder(machine="other"), LEASE + 1, True, True, id="silent-too-long"),
        pytest.param(holder(run="7", attempt=1), 0.0, False, True, id="earlier-attempt"),
        pytest.param(holder(run="7", attempt=3), 0.0, False, False, id="later-attempt"),
        pytest.param(holder(run="6", attempt=1), 0.0, False, False, id="another-run"),
        pytest.param(None, LEASE * 9, False, False, id="not-a-lock"),
    ],
)
def test_a_lock_is_taken_over_only_from_the_dead(
    there: Holder | None,
    age: float,
    lives: bool,  # noqa: FBT001 (a table's column)
    taken: bool,  # noqa: FBT001 (a table's column)
) -> None:
    us = holder(run="7", attempt=2, nonce="us")
    assert may_take_over(there, age, us, lives=lambda _: lives) is taken


def test_a_holder_names_no_machine_and_no_user() -> None:
    ours = this_holder({"GITHUB_RUN_ID": "7", "GITHUB_RUN_ATTEMPT": "2"})
    assert (ours.run, ours.attempt, len(ours.machine)) == ("7", 2, 16)
    assert Path.home().name not in ours.machine
    assert process_lives(ours)
    assert not process_lives(ours.model_copy(update={"born": ours.born - 100}))


def test_notes_longer_than_github_takes_are_cut() -> None:
    assert release_text("tag").startswith(MARK)
    text = release_text("tag", "n" * 2 * BODY_LIMIT)
    assert len(text) == BODY_LIMIT
    assert "cut" in text[-60:]

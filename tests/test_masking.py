"""Passwords and keys in URLs: nowhere to be read, whatever the URL is and whatever stands around it."""

import string
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ocean_emulators.cli.main import main
from ocean_emulators.datasets.source.pinning import locate, pin
from ocean_emulators.errors import HIDDEN, UserError, holds_keys, mask
from ocean_emulators.programs import ending_well
from ocean_emulators.testing.coded_ocean import write_om4
from tests import stores

SECRET = "S3CRET"
LEGAL = string.ascii_letters + string.digits + "-._~!$&'()*+,;=:@/?#%"
words = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)
secrets = st.tuples(st.text(LEGAL, max_size=6), st.text(LEGAL, max_size=6)).map(SECRET.join)
plain = st.text(string.ascii_letters + string.digits + "-._~%+", max_size=6)
tokens = st.tuples(plain, plain).map(SECRET.join)
schemes = st.sampled_from(["http", "https", "s3", "postgresql+psycopg2", "mysql", "ftp", "HTTP", "tcp", "databricks"])
hosts = st.sampled_from(["example.org", "127.0.0.1", "[::1]", "example.org:8080", "127.0.0.1:5000", "localhost"])
paths = st.lists(words, max_size=3).map(lambda parts: "".join(f"/{part}" for part in parts))
logins = st.one_of(
    tokens,
    st.tuples(words, secrets).map(":".join),
    tokens.map(lambda token: f"{token}:"),
    secrets.map(lambda password: f":{password}"),
    st.tuples(tokens, tokens).map(":".join),
)
names = st.sampled_from(
    ["token", "X-Amz-Signature", "X-Amz-Credential", "sig", "access_token", "v", "e", "AWSAccessKeyId"]
)
pairs = st.tuples(names, tokens).map("=".join)
queries = st.tuples(
    st.sampled_from("?#"), st.lists(pairs | words, max_size=2), pairs | tokens, st.lists(pairs | words, max_size=2)
).map(lambda q: q[0] + "&".join([*q[1], q[2], *q[3]]))
texts = st.sampled_from(
    [
        "{}",
        "found '{}': expected",
        'url="{}",',
        "({})",
        "<{}>",
        "at {}, and",
        "a://b, {};",
        "{} {}",
        "{},{}",
        "HTTP error for url ({})",
    ]
)


@st.composite
def urls_with_keys(draw: st.DrawFn) -> str:
    kind = draw(st.sampled_from(["login", "query", "both"]))
    login = f"{draw(logins)}@" if kind != "query" else ""
    query = draw(queries) if kind != "login" else ""
    return f"{draw(schemes)}://{login}{draw(hosts)}{draw(paths)}{query}"


@given(urls_with_keys(), texts)
def test_nothing_secret_is_left(url: str, text: str) -> None:
    masked = mask(text.format(url, url))
    assert SECRET not in masked
    assert HIDDEN in masked
    assert mask(masked) == masked
    assert holds_keys(url)
    assert SECRET not in str(UserError(text.format(url, url)))


@given(schemes, hosts, st.lists(words | st.just("run@2020"), max_size=3), texts)
def test_what_is_not_secret_stays(scheme: str, host: str, parts: list[str], text: str) -> None:
    url = f"{scheme}://{host}{''.join(f'/{part}' for part in parts if ':' not in host or '@' not in part)}"
    assert mask(text.format(url, url)) == text.format(url, url)


@pytest.mark.parametrize(
    "text",
    [
        "/data/a@b/om4.zarr",
        "sqlite:////home/me@work/mlflow.db",
        "file:///C:/data/om4.zarr",
        "what? this = that",
        "tcp://10.0.0.1:8786",
        "ssh://git@example.org/a.git",
        "git+ssh://git@example.org/a.git@main",
        "s3://bucket/om4.zarr: can't be read; me@example.org knows",
    ],
)
def test_other_texts_stay(text: str) -> None:
    assert mask(text) == text


def test_paths_that_libraries_quote_are_masked() -> None:
    text = "HTTPConnectionPool(host='h', port=80): Max retries exceeded with url: /api?x=1&token=S3CRET (Caused by"
    assert mask(text) == text.replace(SECRET, HIDDEN)


KEYED = [
    f"http://me:{SECRET}@127.0.0.1:1/om4.zarr",
    f"https://{SECRET}@127.0.0.1:1/om4.zarr",
    f"http://127.0.0.1:1/om4.zarr?token={SECRET}",
    f"http://127.0.0.1:1/om4.zarr?a=b&X-Amz-Signature={SECRET}",
    f"s3://KEY:{SECRET}@bucket/om4.zarr",
    f"s3://KEY:{SECRET}/+a@bucket/om4.zarr",
]


@pytest.mark.parametrize("url", KEYED)
@pytest.mark.parametrize("key", ["url", "endpoint"])
def test_a_pointer_file_with_a_key_is_refused(url: str, key: str, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(yaml.safe_dump({"url": "s3://bucket/om4.zarr", "fingerprint": "abc"} | {key: url}))
    for use in (lambda: locate(str(file)), lambda: pin(file)):
        with pytest.raises(UserError) as caught:
            use()
        assert str(caught.value).startswith(f"{file}: {key}: found ")
        assert "keys come from the environment, AWS's usual files" in str(caught.value)
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize("url", KEYED)
def test_a_key_on_the_command_line_is_not_printed(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["data", "describe", url])
    assert caught.value.code == 2
    printed = "".join(capsys.readouterr())
    assert printed.startswith("error: ")
    assert SECRET not in printed


def test_a_key_in_a_faulty_command_line_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["data", "describe", "a", KEYED[0]], ["data", KEYED[0]], [KEYED[0]]):
        with pytest.raises(SystemExit):
            main(words)
        printed = "".join(capsys.readouterr())
        assert HIDDEN in printed
        assert SECRET not in printed


def test_a_key_on_the_command_line_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_om4(tmp_path / "om4.zarr", (4, 8), 3, 2)
    with stores.serve(tmp_path, user=f"me:{SECRET}") as address:
        main(["data", "describe", f"{address.replace('://', f'://me:{SECRET}@')}/om4.zarr"])
        printed = capsys.readouterr().out
        assert f"://{HIDDEN}@127.0.0.1" in printed
        assert SECRET not in printed


def test_what_others_raise_is_masked_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, ending_well():
        raise RuntimeError(f"connection to postgresql://me:{SECRET}@db/mlflow failed")
    printed = capsys.readouterr().err
    assert caught.value.code == 1
    assert "Traceback" in printed
    assert "postgresql://***@db/mlflow failed" in printed
    assert SECRET not in printed

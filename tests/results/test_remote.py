"""Requests to S3 that fail, for a while or for good."""

import os
import pickle
import random
import threading
import time

import pytest

from results import Store, StoreError, StoreUnavailable, remote
from results.refusals import refusal_of
from results.remote import ABSENT, Remote
from tests.results.fakes import content, fake_ablation, fake_trial
from tests.results.s3_faults import AWAY, away, credentials, expiring, key_of, read_only, unreliable
from tests.results.s3_server import DROP, OTHERS, Answer

pytestmark = pytest.mark.slow


def test_an_object(s3):
    far = Remote("s3://bucket/an/object/")
    assert list(far.entries("")) == []
    for name, data in (("a/1", b""), ("a/2+ =~%", b"two"), ("b", b"x" * 100_000)):
        assert far.put(name, data)
        assert far.get(name) == data
    entries = list(far.entries("a/"))
    assert [(entry.name, entry.size) for entry in entries] == [("a/1", 0), ("a/2+ =~%", 3)]
    assert all(abs(entry.age) < 30 and abs(entry.modified - time.time()) < 30 for entry in entries)
    assert far.get_range("b", "5-9") == (b"x" * 5, 100_000)
    for name in ("a", "a/3"):
        with pytest.raises(FileNotFoundError):
            far.get(name)
    file = far.open("b")
    assert (file.seek(-3, os.SEEK_END), file.read(), file.read(1)) == (99_997, b"xxx", b"")
    assert (file.seek(10), len(file.read(50_000)), file.tell(), len(file.read())) == (10, 50_000, 50_010, 49_990)
    far.delete(["a/1", "b", "never"])
    assert [entry.name for entry in far.entries("")] == ["a/2+ =~%"]


def test_more_objects_than_a_page_lists(s3):
    far = Remote("s3://bucket/many")
    names = [f"{index:04}" for index in range(1002)]
    list(far.map(lambda name: far.put(name, b""), names))
    assert [entry.name for entry in far.entries("")] == names
    far.delete(names)
    assert list(far.entries("")) == []


def test_an_object_is_replaced_only_where_it_is_the_one_that_was_read(s3):
    far = Remote("s3://bucket/conditional")
    assert far.put("x", b"1", replaces=ABSENT)
    assert not far.put("x", b"2", replaces=ABSENT)
    data, etag = far.get_with_etag("x")
    assert far.put("x", b"3", replaces=etag)
    assert not far.put("x", b"4", replaces=etag)
    assert not far.put("none", b"4", replaces=etag)
    assert (data, far.get("x")) == (b"1", b"3")


@pytest.mark.parametrize("code", ["SlowDown", DROP])
def test_a_condition_whose_first_answer_is_lost_was_met(s3, code):
    far = Remote("s3://bucket/lost")
    faults = [DROP if code is DROP else Answer(503, code, after=True)]
    s3.fault = lambda method, path, headers: faults.pop() if faults and method == "PUT" else None
    assert far.put(f"x-{code}", b"1", replaces=ABSENT)
    assert not faults
    assert not far.put(f"x-{code}", b"2", replaces=ABSENT)


def test_a_large_file_goes_in_parts(s3, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "PART", 5 << 20)
    path = tmp_path / "large"
    path.write_bytes(random.Random(0).randbytes(13 << 20))
    far = Remote("s3://bucket/parts")
    s3.fault = unreliable(0.3)
    far.upload(path, "large")
    far.put("memory", path.read_bytes())
    s3.fault = lambda *request: None
    assert far.get("large") == far.get("memory") == path.read_bytes()
    sent = [path for method, path, _ in s3.seen if method == "PUT"]
    assert len(sent) >= 6
    monkeypatch.setattr(remote, "PATIENCE", 0.1)
    s3.fault = lambda method, path, headers: Answer(503, "SlowDown") if "partNumber=2" in path else None
    with pytest.raises(StoreUnavailable):
        far.upload(path, "never")
    s3.fault = lambda *request: None
    client = far._connected()
    assert "Uploads" not in client.list_multipart_uploads(Bucket="bucket", Prefix="parts/never")
    assert [entry.name for entry in far.entries("")] == ["large", "memory"]


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("AES256", {"x-amz-server-side-encryption": "AES256"}),
        ("aws:kms", {"x-amz-server-side-encryption": "aws:kms"}),
        ("aws:kms:arn:k", {"x-amz-server-side-encryption": "aws:kms", "x-amz-server-side-encryption-aws-kms-key-id": "arn:k"}),
        ("", {}),
    ],
)  # fmt: skip
def test_encryption_is_asked_for_with_every_write(s3, tmp_path, monkeypatch, asked, sent):
    monkeypatch.setenv(remote.ENCRYPTION, asked)
    monkeypatch.setattr(remote, "PATIENCE", 0.0)
    found = []

    def fault(method, path, headers):
        found.append({k.lower(): v for k, v in headers.items() if "encryption" in k.lower()})
        return Answer(403, "AccessDenied")

    s3.fault = fault
    far = pickle.loads(pickle.dumps(Remote("s3://bucket/secret")))
    for write in (lambda: far.put("x", b"1"), lambda: far.put("y", b"1" * (remote.PART + 1))):
        with pytest.raises(StoreError):
            write()
    assert found == [sent, sent]


def test_an_encryption_that_is_unknown_is_refused(monkeypatch):
    monkeypatch.setenv(remote.ENCRYPTION, "rot13")
    with pytest.raises(StoreError, match=r"^Expected S3_ENCRYPTION to be .*found rot13"):
        Remote("s3://bucket/x")


@pytest.mark.parametrize("pickled", [False, True])
def test_a_fifth_of_the_requests_failing_loses_and_doubles_nothing(s3, tmp_path, pickled):
    near, far = Store(tmp_path / "near"), Store(f"s3://bucket/unreliable-{pickled}")
    far = pickle.loads(pickle.dumps(far)) if pickled else far
    s3.fault = unreliable(0.2)
    for store in (near, far):
        fake_ablation(store, folds=2, seeds=1, whole=True)
        store.compact()
        store.commit("failed", fake_trial("failed", status="failed"))
        store.commit("failed", fake_trial("failed"))
    assert content(far) == content(near)
    far.compact()
    s3.fault = lambda *request: None
    assert content(Store(far.root)) == content(near)
    assert not list(far._layout.remote.entries("parts/"))


def test_an_outage_that_ends_in_time_is_not_noticed(s3):
    far = Store("s3://bucket/outage")
    far.check_writable()
    s3.fault = away
    begun = time.monotonic()
    end = threading.Timer(3.0, lambda: setattr(s3, "fault", lambda *request: None))
    end.start()
    assert far.commit("k", fake_trial("k"))
    assert time.monotonic() - begun > 2.5
    end.join()
    assert far.statuses() == {"k": "done"}


def test_a_longer_outage_is_told_apart_and_ends(s3, monkeypatch):
    far = Store("s3://bucket/long")
    far.commit("a", fake_trial("a"))
    monkeypatch.setattr(remote, "PATIENCE", 0.3)
    s3.fault = away
    for attempt in (far.committed_keys, lambda: far.commit("b", fake_trial("b")), far.compact, far.check_writable):
        with pytest.raises(StoreUnavailable, match=r"s3://bucket/long.*no whole answer .*try again"):
            attempt()
    s3.fault = lambda method, path, headers: AWAY and Answer(*AWAY) if method == "PUT" and "/trials/" in path else None
    with pytest.raises(StoreUnavailable, match="ServiceUnavailable"):
        far.commit("b", fake_trial("b"))
    assert far.committed_keys() == {"a"}
    s3.fault = lambda *request: None
    assert far.commit("b", fake_trial("b"))
    assert far.committed_keys() == {"a", "b"}


def test_a_bucket_that_turns_read_only_is_said_at_once(s3, monkeypatch):
    monkeypatch.setattr(remote, "PATIENCE", 3600.0)
    far = Store("s3://bucket/readonly")
    far.commit("a", fake_trial("a"))
    before = content(far)
    s3.fault = read_only
    for attempt in (lambda: far.commit("b", fake_trial("b")), far.compact, far.check_writable):
        with pytest.raises(
            StoreError, match=r"^Expected to write s3://bucket/readonly/.*AccessDenied.*read-only"
        ) as refused:
            attempt()
        assert type(refused.value) is StoreError
    assert content(far) == before


def test_whether_results_can_be_written_is_tried_and_leaves_nothing(s3):
    far = Store("s3://bucket/writable")
    far.check_writable()
    assert not list(far._layout.remote.entries(""))
    s3.fault = lambda method, path, headers: Answer(200) if method == "PUT" else None
    with pytest.raises(StoreError, match="knows conditional writes"):
        far.check_writable()


def test_credentials_that_expire_all_the_time_are_renewed(s3, monkeypatch):
    seconds, rows = float(os.environ.get("CREDENTIALS_SECONDS", "1.5")), []
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with credentials(seconds) as (address, given):
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", address)
        used = set()
        s3.fault = expiring(given, seconds, used)
        far = Store("s3://bucket/expiring")
        begun = time.monotonic()
        while time.monotonic() - begun < 4 * seconds:
            assert far.commit(f"k{len(rows)}", fake_trial(f"k{len(rows)}"))
            rows.append(f"k{len(rows)}")
            time.sleep(seconds / 20)
        assert far.committed_keys() == set(rows)
        assert len(used) >= 3


def test_credentials_that_were_rewritten_are_read_anew(s3, tmp_path, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))

    def write(number):
        key, secret = OTHERS[number]
        file.write_text(f"[default]\naws_access_key_id={key}\naws_secret_access_key={secret}\n")

    valid = 0
    s3.fault = lambda method, path, headers: (
        None if key_of(headers) == OTHERS[valid][0] else Answer(400, "ExpiredToken")
    )
    write(0)
    far = Store("s3://bucket/rewritten")
    far.commit("a", fake_trial("a"))
    valid = 1
    later = threading.Timer(1.0, write, [1])
    later.start()
    assert far.commit("b", fake_trial("b"))
    later.join()
    valid = 2
    monkeypatch.setattr(remote, "PATIENCE", 0.3)
    with pytest.raises(StoreUnavailable, match=r"ExpiredToken.*have expired: renew them") as refused:
        far.commit("c", fake_trial("c"))
    assert "other" not in str(refused.value)
    write(2)
    assert far.commit("c", fake_trial("c"))
    assert far.committed_keys() == {"a", "b", "c"}


def test_secrets_are_in_no_message():
    from botocore.exceptions import ClientError

    error = {"Code": "Odd", "Message": "AKIAABCDEFGHIJKLMNOP at http://x.y/z?X-Amz-Signature=1 is odd."}
    assert refusal_of(ClientError({"Error": error}, "PutObject")).reason == "Odd (... at ... is odd)"
    assert refusal_of(ValueError("ours")) is None

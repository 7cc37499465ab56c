"""Certificates of one's own are believed by who holds the authority, for their names alone."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509 import DNSName
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from tidemill.security.certificates import AUTHORITY, CERTIFICATE, KEY, ensure_certificates

NOW = datetime(2026, 11, 23, tzinfo=UTC)
NAMES = ("retriever", "localhost", "127.0.0.1")


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def verify(folder: Path, name: str, at: datetime = NOW) -> None:
    """As a client does that trusts the folder's authority and nothing else."""
    builder = PolicyBuilder().store(Store([read(folder / AUTHORITY)])).time(at)
    builder.build_server_verifier(DNSName(name)).verify(read(folder / CERTIFICATE), [])


def test_a_client_believes_the_server_by_each_of_its_names(tmp_path: Path) -> None:
    assert ensure_certificates(tmp_path, NAMES, NOW)
    verify(tmp_path, "retriever")
    verify(tmp_path, "localhost")


def test_a_client_believes_no_other_name_and_no_other_authority(tmp_path: Path) -> None:
    ensure_certificates(tmp_path / "one", NAMES, NOW)
    ensure_certificates(tmp_path / "two", NAMES, NOW)
    with pytest.raises(VerificationError):
        verify(tmp_path / "one", "ingest")
    (tmp_path / "one" / AUTHORITY).write_bytes((tmp_path / "two" / AUTHORITY).read_bytes())
    with pytest.raises(VerificationError):
        verify(tmp_path / "one", "retriever")


def test_a_year_later_it_is_believed_no_more(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, NAMES, NOW)
    verify(tmp_path, "retriever", NOW + timedelta(days=364))
    with pytest.raises(VerificationError):
        verify(tmp_path, "retriever", NOW + timedelta(days=366))


def test_good_certificates_are_kept(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, NAMES, NOW)
    before = (tmp_path / CERTIFICATE).read_bytes()
    assert not ensure_certificates(tmp_path, NAMES, NOW + timedelta(days=300))
    assert not ensure_certificates(tmp_path, NAMES[:1], NOW)
    assert (tmp_path / CERTIFICATE).read_bytes() == before


def test_they_are_made_anew_before_they_end_and_when_a_name_is_missing(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, NAMES, NOW)
    late = NOW + timedelta(days=340)
    assert ensure_certificates(tmp_path, NAMES, late)
    verify(tmp_path, "retriever", late + timedelta(days=300))
    assert ensure_certificates(tmp_path, [*NAMES, "tidemill.example"], late)
    verify(tmp_path, "tidemill.example", late)


def test_a_broken_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / CERTIFICATE).write_text("no certificate")
    assert ensure_certificates(tmp_path, NAMES, NOW)
    verify(tmp_path, "retriever")


def test_only_the_owner_reads_the_key(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, NAMES, NOW)
    assert stat.S_IMODE((tmp_path / KEY).stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == [AUTHORITY, KEY, CERTIFICATE]

"""Downloads from a real local server: mirrors in turn, checksums, and what is said on failure."""

import contextlib
import hashlib
import os
import shutil
import ssl
import subprocess
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from immunization.data import download
from immunization.data.download import File, Place
from immunization.data.mnist_files import FILES
from immunization.linear.datasets import house_prices
from immunization.runtime.errors import UserError

CONTENT = b"the right bytes\n" * 100


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A key and a certificate of this machine's, signed by itself."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl makes the certificate of the test server")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(path),
         "-out", str(path.with_suffix(".crt"))],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        if self.path == "/broken":  # promises more than it sends
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[:50])
        elif self.path == "/plain":
            self.send_response(302)
            self.send_header("Location", "http://localhost/good")
            self.end_headers()
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):  # the other side hangs up
                for _ in range(100):
                    self.wfile.write(bytes(2**20))
        elif self.path == "/drip":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(600):
                    self.wfile.write(b"x")
                    time.sleep(0.1)
        else:
            super().do_GET()


@pytest.fixture
def server(tmp_path, certificate, monkeypatch):
    """Base address of a server whose folder holds a good and an altered file."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    folder = tmp_path / "www"
    folder.mkdir()
    (folder / "good").write_bytes(CONTENT)
    (folder / "short").write_bytes(CONTENT[:-20])
    handler = partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"https://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


def file(*urls):
    return File("set/good", hashlib.sha256(CONTENT).hexdigest(), urls)


def test_sources_are_tried_in_turn_until_the_checksum_fits(server, tmp_path):
    place = Place(None, tmp_path / "cache")
    left = tmp_path / "cache" / "set" / ".good.draft-1.part"
    left.parent.mkdir(parents=True)
    left.write_text("half")
    os.utime(left, (0, 0))
    wanted = file(f"{server}/absent", f"{server}/short", f"{server}/broken", f"{server}/good")
    path = place.fetch(wanted)
    assert path.read_bytes() == CONTENT
    assert not left.exists()  # what a killed download left, a day ago
    assert place.fetch(file()) == path  # from the cache, no source needed


def test_when_no_source_has_it_all_are_listed_and_nothing_is_left_behind(server, tmp_path):
    place = Place(None, tmp_path / "cache")
    with pytest.raises(UserError) as error:
        place.fetch(file(f"{server}/absent", f"{server}/short"))
    for word in ("set/good", "/absent", "404", "/short", "truncated", "mirror"):
        assert word in str(error.value)
    assert not list((tmp_path / "cache" / "set").iterdir())


@pytest.mark.parametrize(
    ("address", "told"),
    [("plain", "which is not HTTPS"), ("endless", "not the file that was asked for")],
)
def test_redirects_to_plain_http_and_endless_answers_are_refused(
    server, tmp_path, monkeypatch, address, told
):
    monkeypatch.setattr(download, "MOST_BYTES", 5 * 2**20)
    with pytest.raises(UserError, match=told):
        Place(None, tmp_path / "cache").fetch(file(f"{server}/{address}"))


def test_a_server_that_sends_a_byte_now_and_then_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MOST_SECONDS", 0.5)
    with pytest.raises(UserError, match=r"/drip: not here after 0\.5 seconds"):
        Place(None, tmp_path / "cache").fetch(file(f"{server}/drip"))


def test_a_server_whose_certificate_nobody_vouches_for_is_refused(server, tmp_path, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(UserError, match="CERTIFICATE_VERIFY_FAILED"):
        Place(None, tmp_path / "cache").fetch(file(f"{server}/good"))


@pytest.mark.parametrize("url", ["http://a/b", "ftp://a/b", "file:///etc/passwd"])
def test_addresses_of_other_kinds_and_paths_that_lead_out_are_refused(url):
    with pytest.raises(ValueError, match="come over HTTPS"):
        file(url)
    for path in ("../up", "/abs", "a/../../b"):
        with pytest.raises(ValueError, match="lead into the mirror"):
            File(path, "0" * 64, ())


def test_a_mirror_comes_first_and_is_checked(tmp_path):
    mirror = tmp_path / "mirror" / "set"
    mirror.mkdir(parents=True)
    (mirror / "good").write_bytes(CONTENT)
    place = Place(tmp_path / "mirror", tmp_path / "cache")
    assert place.fetch(file()) == mirror / "good"
    (mirror / "good").write_bytes(CONTENT[:-1])
    with pytest.raises(UserError, match=r"good: wrong checksum, the file is truncated"):
        place.fetch(file())


def test_an_altered_file_in_the_cache_is_named_and_kept(tmp_path):
    path = tmp_path / "cache" / "set" / "good"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"other")
    with pytest.raises(UserError, match="Delete it and run again"):
        Place(None, tmp_path / "cache").fetch(file())
    assert path.read_bytes() == b"other"


def test_every_public_source_is_https_with_a_full_checksum():
    for known in (*FILES, *house_prices.PARTS):
        assert len(known.urls) >= 2
        assert all(url.startswith("https://") for url in known.urls)
        assert len(known.sha256) == 64


def test_the_two_halves_of_the_house_prices_are_the_whole(public_data, tmp_path):
    """The parts that are downloaded, rebuilt from train.csv by the authors' rule."""
    import pandas as pd

    whole = pd.read_csv(
        public_data / house_prices.TRAIN.path,
        keep_default_na=False,
        na_values=[value for value in house_prices.MISSING if value != "None"],
    )
    zone = whole["MSZoning"] == "RL"
    folder = tmp_path / "house-prices"
    folder.mkdir()
    for part, rows in zip(house_prices.PARTS, (whole[~zone], whole[zone]), strict=True):
        rows.to_csv(folder / Path(part.path).name, index=False)
    from_parts = house_prices.load({}, Place(tmp_path, tmp_path))
    from_whole = house_prices.load({}, Place(public_data, tmp_path))
    for name in ("primary", "harmful"):
        one, two = getattr(from_parts, name), getattr(from_whole, name)
        assert (one.features == two.features).all()
        assert (one.target == two.target).all()

"""Downloads from a real local server: mirrors in turn, checksums, and what is said on failure."""

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from immunization.datasets import house_prices, mnist
from immunization.download import File, Place
from immunization.errors import UserError

CONTENT = b"the right bytes\n" * 100


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        if self.path == "/broken":  # promises more than it sends
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[:50])
        else:
            super().do_GET()


@pytest.fixture
def server(tmp_path):
    """Base address of a server whose folder holds a good and an altered file."""
    folder = tmp_path / "www"
    folder.mkdir()
    (folder / "good").write_bytes(CONTENT)
    (folder / "short").write_bytes(CONTENT[:-20])
    handler = partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def file(*urls):
    return File("set/good", hashlib.sha256(CONTENT).hexdigest(), urls)


def test_sources_are_tried_in_turn_until_the_checksum_fits(server, tmp_path):
    place = Place(None, tmp_path / "cache")
    wanted = file(f"{server}/absent", f"{server}/short", f"{server}/broken", f"{server}/good")
    path = place.fetch(wanted)
    assert path.read_bytes() == CONTENT
    assert place.fetch(file()) == path  # from the cache, no source needed


def test_when_no_source_has_it_all_are_listed_and_nothing_is_left_behind(server, tmp_path):
    place = Place(None, tmp_path / "cache")
    with pytest.raises(UserError) as error:
        place.fetch(file(f"{server}/absent", f"{server}/short"))
    for word in ("set/good", "/absent", "404", "/short", "truncated", "mirror"):
        assert word in str(error.value)
    assert not list((tmp_path / "cache" / "set").iterdir())


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
    for known in (*mnist.FILES, *house_prices.PARTS):
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

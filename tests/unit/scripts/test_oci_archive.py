"""Image archives: their layers, their names, and what a Dockerfile says."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

from scripts.build_image import REQUIREMENTS, read_dockerfile
from scripts.oci_archive import ImageConfig, Layer, pack, write_archive

ROOT = Path(__file__).parents[3]


def _layer(tmp_path: Path) -> Layer:
    folder = tmp_path / "root"
    (folder / "data").mkdir(parents=True)
    (folder / "hello").write_text("hello")
    (folder / "hello").chmod(0o755)
    return Layer.of(pack(folder, {"data": (65532, 65532)}))


def _archive(tmp_path: Path, name: str = "image.tar") -> Path:
    layer = _layer(tmp_path / f"{name}.root")
    write_archive(tmp_path / name, "localhost/tea:1", [layer], ImageConfig(command=("/hello",), user="65532"), "amd64")
    return tmp_path / name


def test_a_layer_has_owners_and_no_times(tmp_path):
    """Files belong to root unless said otherwise, have one time, and keep their modes."""
    with tarfile.open(fileobj=io.BytesIO(_layer(tmp_path).blob)) as layer:
        entries = {entry.name: entry for entry in layer}
    assert (entries["data"].uid, entries["data"].gid) == (65532, 65532)
    hello = entries["hello"]
    assert (hello.uid, hello.gid, hello.mode, hello.mtime, hello.uname) == (0, 0, 0o755, 0, "")


def test_an_archive_is_whole(tmp_path):
    """Every blob has the digest of its name, both manifests lead to all layers, and the image has its name."""
    with tarfile.open(_archive(tmp_path)) as archive:
        files = {entry.name: (archive.extractfile(entry) or io.BytesIO()).read() for entry in archive}
    for name, content in files.items():
        if name.startswith("blobs/"):
            assert hashlib.sha256(content).hexdigest() == name.rpartition("/")[2]
    (top,) = json.loads(files["index.json"])["manifests"]
    assert top["annotations"]["io.containerd.image.name"] == "localhost/tea:1"
    manifest = json.loads(files["blobs/" + top["digest"].replace(":", "/")])
    (layer,) = manifest["layers"]
    config = json.loads(files["blobs/" + manifest["config"]["digest"].replace(":", "/")])
    plain = gzip.decompress(files["blobs/" + layer["digest"].replace(":", "/")])
    assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(plain).hexdigest()]
    assert (config["config"]["Cmd"], config["config"]["User"]) == (["/hello"], "65532")
    (old,) = json.loads(files["manifest.json"])
    assert old["RepoTags"] == ["localhost/tea:1"]
    assert {old["Config"], *old["Layers"]} <= set(files)


def test_the_same_content_is_the_same_archive(tmp_path):
    """An image that is built again of the same files has the same digest."""
    assert _archive(tmp_path, "one.tar").read_bytes() == _archive(tmp_path, "two.tar").read_bytes()


def test_the_dockerfile_is_what_the_archive_says():
    """The Dockerfile starts nothing as root, leaves the command to a pod's args, and adds the layers that are built."""
    config = read_dockerfile(ROOT / "Dockerfile")
    assert (config.user, config.directory) == ("65532:65532", "/data")
    assert config.command[:2] == ["/dapr-shared", "run"]
    assert {3500, 50001, 3501} <= set(config.ports)
    assert "HOME=/data" in config.environment
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert not [line for line in lines if line.startswith("ENTRYPOINT")]
    added = [line.split()[1] for line in lines if line.startswith("ADD ")]
    assert added == [f"build/image/{name}.tar.gz" for name in ("debian", "packages", "dapr-shared")]


def test_the_image_has_the_packages_that_are_tested():
    """Every package of the image is pinned as in requirements/run.txt, all of it but what only builds packages."""
    tested, image = (_pinned(file) for file in (ROOT / "requirements" / "run.txt", REQUIREMENTS))
    assert image <= tested
    building = {"editables", "hatchling", "pathspec", "pluggy", "tomlkit", "trove-classifiers", "packaging"}
    assert {line.partition("==")[0] for line in tested - image} <= building


def _pinned(file: Path) -> set[str]:
    return {line.split(" ")[0] for line in file.read_text().splitlines() if "==" in line}

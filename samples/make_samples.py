"""Rebuild samples/images/ from the packages the pictures come from.

Which pictures there are, and what each becomes, is data: captions.jsonl beside this file.
Each line's "source" says the package, its version and the file inside it; "image" says where the
picture goes and in which format. Needs pillow and resvg-py (for the SVG drawings), and dpkg-deb.

    python samples/make_samples.py DIRECTORY_OF_DOWNLOADED_PACKAGES
"""

import argparse
import io
import json
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

from PIL import Image

SAMPLES = Path(__file__).resolve().parent
LONGEST_SIDE_PX = 512
SHORT_OF_PX = 160  # smaller pictures are enlarged to this longest side, so that a page need not blur them
OPAQUE_ALPHA = 250
STAMPS = "./usr/share/tuxpaint/stamps/"


def read_package(directory: Path, package: str, paths: list[str]) -> dict[str, bytes]:
    """Take these files from one downloaded package, named as in a "source" ("name version")."""
    name, version = package.split(" ")
    if name.startswith("@"):  # npm pack: @scope/name becomes scope-name-version.tgz
        tarball = only(directory, f"{name[1:].replace('/', '-')}-{version}.tgz").read_bytes()
        return read_tar(tarball, "package/", paths)
    if name == "scikit-image":
        with zipfile.ZipFile(only(directory, f"scikit_image-{version}-*.whl")) as wheel:
            return {path: wheel.read(path) for path in paths}
    deb = only(directory, f"{name}_{version}_all.deb")
    tree = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(deb)], check=True, capture_output=True).stdout
    return read_tar(tree, STAMPS, paths)


def only(directory: Path, pattern: str) -> Path:
    found = sorted(directory.rglob(pattern))
    if len(found) != 1:
        raise FileNotFoundError(f"expected one {pattern} under {directory}, found {len(found)}")
    return found[0]


def read_tar(tarball: bytes, prefix: str, paths: list[str]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(tarball)) as archive:
        for path in paths:
            member = archive.extractfile(prefix + path)
            if member is None:
                raise FileNotFoundError(path)
            files[path] = member.read()
    return files


def decode(data: bytes, path: str) -> Image.Image:
    """RGBA; an SVG is drawn so that its longest side is LONGEST_SIDE_PX."""
    if path.endswith(".svg"):
        data = draw_svg(data.decode())
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGBA")


def draw_svg(svg: str) -> bytes:
    import resvg_py  # only the drawings need it

    with Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, dpi=96.0)))) as natural:
        zoom = LONGEST_SIDE_PX / max(natural.size)
    return bytes(resvg_py.svg_to_bytes(svg_string=svg, dpi=96.0, zoom=zoom))


def fit(image: Image.Image) -> Image.Image:
    """Cut off the empty border, then bring the longest side between SHORT_OF_PX and LONGEST_SIDE_PX."""
    image = image.crop(image.getchannel("A").getbbox())
    longest = max(image.size)
    wanted = min(max(longest, SHORT_OF_PX), LONGEST_SIDE_PX)
    if wanted == longest:
        return image
    width, height = (max(1, round(side * wanted / longest)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def save(image: Image.Image, target: Path) -> None:
    """JPEG for opaque photographs, WebP for photographic cut-outs, PNG for drawings: the suffix says."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".jpg":
        if min(image.getchannel("A").tobytes()) < OPAQUE_ALPHA:
            raise ValueError(f"{target.name}: a JPEG cannot keep the transparent parts of this picture")
        image.convert("RGB").save(target, quality=88, optimize=True, progressive=True)
    elif target.suffix == ".webp":
        image.save(target, quality=90)
    else:
        image.save(target, optimize=True)


def make(packages: Path, samples: Path) -> int:
    """Replace samples/images/ by what samples/captions.jsonl lists; returns the number of pictures."""
    lines = (samples / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    targets: dict[str, dict[str, Path]] = {}
    for entry in map(json.loads, lines):
        package, path = entry["source"].split(": ")
        targets.setdefault(package, {})[path] = samples / entry["image"]
    shutil.rmtree(samples / "images", ignore_errors=True)
    for package, wanted in targets.items():
        for path, data in read_package(packages, package, list(wanted)).items():
            save(fit(decode(data, path)), wanted[path])
    return len(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Rebuild samples/images/ from downloaded packages.")
    parser.add_argument("packages", type=Path, help="folder with the .deb, .whl and .tgz files")
    print(f"{make(parser.parse_args().packages, SAMPLES)} pictures")


if __name__ == "__main__":
    main()

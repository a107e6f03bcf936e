"""Packs what a machine with a GPU, Python, torch and transformers, but without a network, lacks to run tightfit.

    python tools/gpu_kit.py pack [--python 3.12] [--out build/gpu-kit.tar.xz]     # here, where `make setup` was done
    python tools/gpu_kit.py unpack KIT FOLDER                                     # there; tools/gpu_check.sh does it

The archive holds the packages of constraints.txt that tightfit needs, as importable files, and goes beside a copy of
the tree. torch, transformers and what they bring are the machine's own: their CUDA builds are far larger than all else.
MLflow and psycopg are left out, since jobs run without them, and so are parts of Ray that no job uses.
"""

import argparse
import io
import json
import lzma
import platform
import re
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import requires
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).resolve().parents[1]
KIT = ROOT / "build" / "gpu-kit.tar.xz"
MAX_BYTES = 40_000_000
TESTS = ("pytest", "pytest-timeout")
LEFT_OUT = frozenset({"mlflow", "psycopg"})
BROUGHT = frozenset(  # by torch and transformers, in versions that fit them
    {"torch", "filelock", "fsspec", "jinja2", "markupsafe", "mpmath", "networkx", "setuptools", "sympy"}
    | {"transformers", "huggingface-hub", "hf-xet", "numpy", "pyyaml", "regex", "safetensors", "tokenizers", "tqdm"}
    | {"anyio", "h11", "httpcore2", "httpx2", "truststore"}
)
_LIBRARIES = ("cpp", "data", "llm", "rllib", "serve", "train", "tune", "workflow")
UNUSED = ("ray/jars/", "ray/dashboard/client/", *(f"ray/{name}/" for name in _LIBRARIES))
_GLIBC = (5, 12, 17, 24, 26, 27, 28, 31, 34)
_FILTERS = [
    {"id": lzma.FILTER_X86},
    {"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 2**26},
]  # code of programs is most of it
_SITE, _ABOUT = "site", "kit.json"


def needed_packages(python: str) -> dict[str, str]:
    """Return package -> version of all that goes into the archive, from the metadata of this environment."""
    from packaging.requirements import Requirement  # not on the machine that unpacks

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    waiting, seen = [Requirement(text) for text in (*project["dependencies"], *TESTS)], set[str]()
    while waiting:
        name = _plain(waiting.pop().name)
        if name in seen | BROUGHT | LEFT_OUT:
            continue
        seen.add(name)
        found = map(Requirement, requires(name) or ())
        version = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
        waiting += [r for r in found if r.marker is None or r.marker.evaluate(version)]
    pins = dict(_pins((ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()))
    if unknown := sorted(seen - pins.keys()):
        raise SystemExit(f"constraints.txt has no version of {', '.join(unknown)}: add what `pip freeze` says of them.")
    return {name: pins[name] for name in sorted(seen)}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pins(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        name, _, version = line.partition("==")
        yield _plain(name.strip()), version.strip()


def download(packages: dict[str, str], python: str, machine: str, folder: Path) -> None:
    """Fetch the wheels of packages for another Python, into an empty folder."""
    platforms = [f"manylinux_2_{n}_{machine}" for n in _GLIBC] + [f"manylinux{n}_{machine}" for n in (1, 2010, 2014)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", python, "--implementation", "cp", "--dest", str(folder)]
    command += [word for name in platforms for word in ("--platform", name)]
    subprocess.run([*command, *(f"{n}=={v}" for n, v in packages.items())], check=True)  # noqa: S603 (our own words)


def write_archive(wheels: Iterable[Path], about: Mapping[str, object], out: Path) -> int:
    """Write the files of wheels as one archive, the same bytes for the same wheels; return its size in bytes."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f"{out.name}.part")  # so that there is a whole archive or none
    with lzma.open(part, "wb", filters=_FILTERS) as file, tarfile.open(fileobj=file, mode="w") as archive:
        _add(archive, _ABOUT, json.dumps(about, indent=1).encode(), 0o644)
        for wheel in sorted(wheels):
            with ZipFile(wheel) as files:
                for member in sorted(files.infolist(), key=lambda m: m.filename):
                    if (name := _place(member.filename)) is not None:
                        is_program = (member.external_attr >> 16) & 0o111
                        _add(archive, f"{_SITE}/{name}", files.read(member), 0o755 if is_program else 0o644)
    part.replace(out)
    return out.stat().st_size


def _place(name: str) -> str | None:
    """Return where a file of a wheel goes; None where it is not needed."""
    top, _, rest = name.partition("/")
    if top.endswith(".data"):  # files for other places: the library's, scripts, headers
        kind, _, name = rest.partition("/")
        return name if kind in ("purelib", "platlib") and name else None
    return None if name.endswith("/") or name.startswith(UNUSED) else name


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def pack(python: str, machine: str, out: Path) -> None:
    """Fetch what is needed and write the archive."""
    packages, wheels = needed_packages(python), out.parent / f"gpu-kit-wheels-{python}-{machine}"
    wheels.mkdir(parents=True, exist_ok=True)
    for old in wheels.glob("*.whl"):
        name, version, *_ = old.name.split("-")
        if packages.get(_plain(name)) != version:
            old.unlink()
    have = {_plain(wheel.name.partition("-")[0]) for wheel in wheels.glob("*.whl")}
    if missing := {name: version for name, version in packages.items() if name not in have}:
        download(missing, python, machine, wheels)
    about = {"python": python, "machine": machine, "packages": packages}
    size = write_archive(wheels.glob("*.whl"), about, out)
    print(f"{out}: {len(packages)} packages for Python {python}, {size / 1e6:.1f} MB")
    if size > MAX_BYTES:
        raise SystemExit(f"That is more than {MAX_BYTES / 1e6:.0f} MB: look for what can be left out.")


def unpack(kit: Path, folder: Path) -> Path:
    """Unpack an archive and return the folder that Python is to find packages in.

    Raises:
        SystemExit: there is none, or it is for another Python.

    """
    if not kit.is_file():
        raise SystemExit(f"{kit} is not there: make it with `python tools/gpu_kit.py pack`, or give --kit none.")
    with tarfile.open(kit) as archive:
        about = json.loads(archive.extractfile(_ABOUT).read())  # type: ignore[union-attr]
        here = (".".join(platform.python_version_tuple()[:2]), platform.machine())
        if (about["python"], about["machine"]) != here:
            raise SystemExit(
                f"{kit} is for Python {about['python']} on {about['machine']}, and this is {here[0]} on {here[1]}: "
                "name another interpreter with --python, or pack again with --python and --machine."
            )
        archive.extractall(folder, filter="data")
    return folder / _SITE


def main() -> None:
    """Pack or unpack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True, dest="verb")
    packing = verbs.add_parser("pack", help="write the archive")
    packing.add_argument("--python", default="3.12", help="its version there")
    packing.add_argument("--machine", default="x86_64")
    packing.add_argument("--out", type=Path, default=KIT)
    unpacking = verbs.add_parser("unpack", help="unpack it and print the folder for PYTHONPATH")
    unpacking.add_argument("kit", type=Path)
    unpacking.add_argument("folder", type=Path)
    options = parser.parse_args()
    if options.verb == "pack":
        pack(options.python, options.machine, options.out)
    else:
        print(unpack(options.kit, options.folder))


if __name__ == "__main__":
    main()

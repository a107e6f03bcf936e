"""Inputs of the fuzzer: each is made of its seed alone, in a folder of its own."""

import json
import os
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.mutations import as_text, mutate_bytes, mutate_json, mutate_text, odd_value

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "200", "NO_COLOR": "1"}
_OPTIONS: dict[str, list[str]] = {
    "--budget": ["50%", "4GiB", "3.25bpw", "1e3B", "-1%", "0bpw", "99999999999999999999TB", "3", ""],
    "--bits": ["2,3,4", "4", "16", "2,16", "9", "", "2,,3", "2.5", "-4"],
    "--group-size": ["32,64", "channel", "0", "1", "999999999999999999999", "ch,ch", "-1"],
    "--sparsity": ["0,0.5", "2:4", "1.0", "nan", "inf", "0.12345", "-0"],
    "--rank": ["0,8", "99999999999999", "-1", "8", "0,0"],
    "--kind": ["integer", "rotated-trellis", "trellis,rotated", "gguf", "integer,integer"],
    "--pin": [
        "down_proj=b4-g64",
        "a{99999999999}=b4",
        "(=b4",
        ".*=dense",
        "x=",
        "=b4",
        "q_proj=b4-g999999999999",
        "[[a=b4",
    ],
    "--target": ["packed", "compressed-tensors", "gguf", "onnx", "mlx"],
    "--context": ["0", "128", "-1", "999999999999999999999999", "1.5"],
    "--batch": ["1", "0", "999999999999999999999999"],
    "--sampler": ["front", "nsga2", "random", "best"],
    "--max-trials": ["10", "0", "-1", "99999999999999999999999"],
    "--max-minutes": ["1", "nan", "inf", "-1", "1e308"],
    "--workers": ["1", "0", "999999999999"],
    "--worker-memory": ["8GiB", "much", "0B", "1e30GiB", "3%"],
    "--seed": ["0", "-1", "9223372036854775808", "x"],
    "--calibration": [
        "TEXT",
        "python-stdlib",
        "/dev/zero",
        "~nobodyx/t.txt",
        "/nowhere.txt",
        "FIFO",
        "MODEL",
        "é.jsonl",
    ],
}
_MODELS = [
    "MODEL",
    "bundled",
    "/nowhere",
    "~nobodyx/",
    "x" * 300,
    "a/b",
    "a/b@c",
    "",
    ".",
    "MODEL/config.json",
    "/dev",
    "FIFO",
]
_VERBS = [
    *(["status"], ["front", "JOB"], ["explain", "JOB"], ["export", "JOB", "--out", "out"], ["cancel", "JOB"]),
    *(["pause", "JOB"], ["resume", "JOB", "--queue"], ["gc", "--dry-run"], ["db", "check"], ["db", "upgrade"]),
    *(
        ["front", "JOB", "--html", "x.html"],
        ["front", "JOB", "--json", "--csv"],
        ["export", "JOB", "--out", "/dev/null"],
    ),
    *(["export", "JOB", "--out", "out", "--budget", "5MB"], ["--version"], ["--help"], ["submit", "--help"], []),
    *(
        ["status", "JOB", "--json"],
        ["status", "--home", "~nobodyx/"],
        ["status", "--home", "FIFO"],
        ["doctor", "--json"],
    ),
    *(
        ["front", "JOB", "--point", "p1"],
        ["explain", "JOB", "--point", ""],
        ["export", "JOB", "--out", "", "--format", "x"],
    ),
]
_URLS = {
    "MLFLOW_TRACKING_URI": [
        "http://127.0.0.1:99999",
        "http://[::1",
        "ftp://x",
        "http://user:p/w@127.0.0.1:1",
        "",
        "x" * 999,
    ],
    "TIGHTFIT_DATABASE_URL": [
        *(
            "sqlite:///",
            "sqlite:///FIFO",
            "sqlite:////dev/null",
            "sqlite:///a?b=c",
            "mysql://x",
            "postgresql://127.0.0.1:1/x",
        ),
        *(
            "postgresql://u:p@ss@127.0.0.1:1/x",
            "postgresql://127.0.0.1:99999/x",
            "memory:",
            "sqlite:///x.db?timeout=y",
            "//",
        ),
        *("sqlite:///file:x?mode=ro&uri=true", "sqlite:///x.db?mode=zz&uri=1", "sqlite:////nowhere/\ud800.db"),
    ],
    "RAY_ADDRESS": ["127.0.0.1:99999", "ray://127.0.0.1:1", "auto", "x:\u00b2"],
    "TIGHTFIT_HOME": [
        "FOLDER/what?",
        "FOLDER/50%",
        "/dev/null",
        "/proc/x",
        "~nobodyx",
        "FOLDER/" + "y" * 300,
        "FOLDER/a#b",
    ],
    "TIGHTFIT_LEASE_SECONDS": ["nan", "1e9", "-1", "x", "30"],
}


@dataclass(frozen=True)
class Input:
    """A command line and what it is given.

    Attributes:
        seed: all of it is made of this.
        kind: what is odd about it.
        folder: where it runs.
        arguments: of `tightfit`.
        environment: variables, beside those of the caller.

    """

    seed: int
    kind: str
    folder: Path
    arguments: list[str]
    environment: dict[str, str] = field(default_factory=dict)


def make_input(seed: int, models: list[Path], folder: Path, kinds: Sequence[str] = ()) -> Input:
    """Return an input; its files are made in the folder.

    Args:
        seed: of everything.
        models: whole models to damage.
        folder: empty.
        kinds: what may be odd about it; anything where none is named.

    """
    rng = random.Random(seed)
    kind = rng.choice(list(kinds or _MAKERS))
    model = rng.choice(models)
    os.mkfifo(folder / "pipe")
    shutil.copytree(model, folder / "model")
    arguments, environment = _MAKERS[kind](folder, rng)
    places = {"MODEL": "model", "FIFO": "pipe", "TEXT": "text.txt", "FOLDER": str(folder), "JOB": "j123456"}
    (folder / "text.txt").exists() or (folder / "text.txt").write_text("All that is gold does not glitter. " * 2000)

    def placed(text: str) -> str:
        for word, place in places.items():
            text = text.replace(word, place)
        return text.replace("\x00", "")  # no command line and no variable can hold it

    usual = {**_ENVIRONMENT, "TIGHTFIT_HOME": str(folder / "home")}
    found = {name: placed(value) for name, value in (usual | environment).items()}
    return Input(seed, kind, folder, [placed(text) for text in arguments], found)


Made = tuple[list[str], dict[str, str]]


def _dry_run(*more: str) -> Made:
    return ["submit", "MODEL", "--budget", "60%", "--dry-run", *more], {}


def _options(folder: Path, rng: random.Random) -> Made:
    """Odd options of submit."""
    arguments = ["submit", rng.choice(["MODEL", "MODEL", rng.choice(_MODELS)]), "--dry-run"]
    for option in rng.sample(list(_OPTIONS), rng.randint(1, 4)):
        value = rng.choice(_OPTIONS[option])
        value = mutate_text(value, rng) if rng.random() < 0.4 else value
        arguments += [f"{option}={value}"] if rng.random() < 0.8 else [option, value]
    if not any(text.startswith("--budget") for text in arguments):
        arguments += ["--budget", "60%"]
    return arguments, {}


def _commands(folder: Path, rng: random.Random) -> Made:
    """Odd words to any command."""
    arguments = list(rng.choice(_VERBS))
    if arguments and rng.random() < 0.7:
        place = rng.randrange(len(arguments))
        arguments[place] = mutate_text(arguments[place], rng)
    if rng.random() < 0.2:
        arguments.insert(rng.randrange(len(arguments) + 1), str(odd_value(rng)))
    return arguments if arguments[:1] not in (["demo"], ["ui"], ["work"]) else ["status"], {}


def _places(folder: Path, rng: random.Random) -> Made:
    """Odd addresses and homes."""
    name = rng.choice(list(_URLS))
    value = rng.choice(_URLS[name])
    value = mutate_text(value, rng) if rng.random() < 0.4 else value
    value = value.encode(errors="replace").decode()
    command = rng.choice([["status"], ["db", "check"], ["front", "JOB"], ["gc", "--dry-run"], ["doctor", "--json"]])
    return list(command), {name: value}


def _config(folder: Path, rng: random.Random) -> Made:
    """A damaged config.json."""
    _damage_json(folder / "model" / "config.json", rng)
    return _dry_run(*rng.choice([[], ["--context", "64"], ["--json"]]))


def _index(folder: Path, rng: random.Random) -> Made:
    """A model of two files with a damaged index."""
    from safetensors.torch import load_file, save_file

    model = folder / "model"
    tensors = load_file(model / WEIGHTS)
    (model / WEIGHTS).unlink()
    names = sorted(tensors)
    cut = rng.randrange(len(names))
    files = {"model-00001-of-00002.safetensors": names[:cut], "model-00002-of-00002.safetensors": names[cut:]}
    for file, kept in files.items():
        save_file({name: tensors[name] for name in kept}, model / file)
    weight_map = {name: file for file, kept in files.items() for name in kept}
    (model / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    if rng.random() < 0.9:
        _damage_json(model / INDEX, rng)
    return _dry_run()


def _header(folder: Path, rng: random.Random) -> Made:
    """A damaged header of the weights, or bytes that are none."""
    path = folder / "model" / WEIGHTS
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    if rng.random() < 0.3:
        path.write_bytes(mutate_bytes(data[: 8 + length], rng) + data[8 + length :])
        return _dry_run()
    text = as_text(mutate_json(json.loads(data[8 : 8 + length]), rng, rng.randint(1, 3)), rng)
    size = len(text) if rng.random() < 0.9 else rng.choice([0, 1, 2**63, 2**64 - 1, 10**8 + 1, len(text) + 1])
    path.write_bytes(size.to_bytes(8, "little") + text + data[8 + length :])
    return _dry_run()


def _files(folder: Path, rng: random.Random) -> Made:
    """Something else in place of a file."""
    name = rng.choice(
        ["config.json", WEIGHTS, INDEX, "tokenizer.json", "tokenizer_config.json", "generation_config.json"]
    )
    path = folder / "model" / name
    path.unlink(missing_ok=True)
    make: Any = rng.choice(
        [
            *(Path.mkdir, os.mkfifo, Path.touch, lambda p: p.symlink_to("/dev/zero"), lambda p: p.symlink_to(p)),
            *(lambda p: p.symlink_to("/nowhere"), lambda p: p.write_bytes(rng.randbytes(1000)), lambda _: None),
            lambda p: os.truncate(os.open(p, os.O_CREAT | os.O_WRONLY), 10**11),
        ]
    )
    make(path)
    return _dry_run("--calibration", "TEXT")


def _tokenizer(folder: Path, rng: random.Random) -> Made:
    """A damaged file of the tokenizer, and a text for it."""
    path = folder / "model" / rng.choice(["tokenizer.json", "tokenizer_config.json"])
    _damage_json(path, rng)
    return _dry_run("--calibration", "TEXT")


def _text(folder: Path, rng: random.Random) -> Made:
    """A calibration text of any kind of content and name."""
    name = rng.choice(["t.txt", "t.jsonl", "t.json", "t.JSONL", "t.csv", "t.ndjson", "t.parquet", "t", "t.gz"])
    lines: list[Any] = [{"text": f"Line {i} of a text that is long enough. " * 20} for i in range(200)]
    if rng.random() < 0.5:
        lines = mutate_json(lines, rng, rng.randint(1, 4))
    rows = lines if isinstance(lines, list) else [lines]
    whole = json.dumps(lines) if rng.random() < 0.3 else "\n".join(map(json.dumps, rows))
    data = whole.encode(errors="surrogatepass")
    if rng.random() < 0.4:
        data = mutate_bytes(data, rng)
    if rng.random() < 0.2:
        data = rng.choice([b"\xef\xbb\xbf", b"\xff\xfe", b"\x00", b"\x1f\x8b"]) + data
    (folder / name).write_bytes(data if rng.random() < 0.9 else rng.randbytes(5000))
    return _dry_run("--calibration", name)


def _damage_json(path: Path, rng: random.Random) -> None:
    if rng.random() < 0.15:
        path.write_bytes(mutate_bytes(path.read_bytes(), rng))
    else:
        path.write_bytes(as_text(mutate_json(json.loads(path.read_text()), rng, rng.randint(1, 3)), rng))


_MAKERS: dict[str, Callable[[Path, random.Random], Made]] = {
    "options": _options,
    "commands": _commands,
    "places": _places,
    "config": _config,
    "index": _index,
    "header": _header,
    "files": _files,
    "tokenizer": _tokenizer,
    "text": _text,
}

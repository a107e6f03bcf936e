"""What of a model's folder may be passed on: known names, really inside, without code and without places."""

import json
from pathlib import Path

import pytest

from space.errors import ModelError
from workers.models.companions import check_inside, companion_files, licence_files, published, published_bytes
from workers.models.source_cards import terms_of


@pytest.mark.parametrize(
    "name",
    [
        *("vocab.key", "vocab.py", "tokenizer.py", "tokenizer_secret.pem", "tokenizer", "tokenizer.json.bak"),
        *("chat_template.py", "chat_template.key", "sentencepiece.key.model", "additional_chat_templates/x.py"),
        *(".env", "id_rsa", "config.json", "model.safetensors", "LICENSE.py", "notes.txt"),
    ],
)
def test_other_names_are_no_companions(tmp_path: Path, name: str) -> None:
    """Code, keys and what only begins like a tokenizer stay where they are."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("x")
    assert companion_files(tmp_path) == licence_files(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["vocab.txt", "tokenizer.json", "LICENSE", "additional_chat_templates/a.jinja", "tokenizer.model.v3"]
)
def test_link_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    """A known name may lead to any file of this machine."""
    folder, private = tmp_path / "model", tmp_path / "private"
    private.write_text("secret")
    (folder / name).parent.mkdir(parents=True)
    (folder / name).symlink_to(private)
    with pytest.raises(ModelError, match=rf"{name}: a link to a file outside the model's folder"):
        check_inside(folder, [*companion_files(folder), *licence_files(folder)])


def test_linked_folder_is_refused(tmp_path: Path) -> None:
    """A folder of templates that is a link leads out as well; so does a folder of blobs that is none of the hub's."""
    private = tmp_path / "private"
    private.mkdir()
    (private / "a.jinja").write_text("secret")
    (model := tmp_path / "model").mkdir()
    (model / "additional_chat_templates").symlink_to(private)
    snapshot = tmp_path / "models--a--b" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (tmp_path / "models--a--b" / "blobs").symlink_to(private)
    (snapshot / "vocab.txt").symlink_to("../../blobs/a.jinja")
    for folder in (model, snapshot):
        with pytest.raises(ModelError, match="a link to a file outside"):
            check_inside(folder, companion_files(folder))


def test_links_inside_and_into_the_hub_cache_are_files_of_the_model(tmp_path: Path) -> None:
    """The hub's cache is made of links; so may a folder be that keeps one file under two names."""
    snapshot = tmp_path / "models--a--b" / "snapshots" / ("0" * 40)
    blobs = tmp_path / "models--a--b" / "blobs"
    for folder in (snapshot, blobs):
        folder.mkdir(parents=True)
    (blobs / "123").write_text("{}")
    (snapshot / "tokenizer.json").symlink_to("../../blobs/123")
    (snapshot / "spiece.model").write_text("x")
    (snapshot / "tokenizer.model").symlink_to("spiece.model")
    (tmp_path / "link").symlink_to(snapshot)
    for folder in (snapshot, tmp_path / "link"):
        found = companion_files(folder)
        assert [path.name for path in found] == ["spiece.model", "tokenizer.json", "tokenizer.model"]
        check_inside(folder, found)


def test_settings_lose_code_and_places(tmp_path: Path) -> None:
    """At any depth; all that is left is as it was, and a vocabulary may hold any word."""
    settings = {
        "auto_map": {"AutoTokenizer": ["tokenization_x.X", None]},
        "tokenizer_class": "PreTrainedTokenizerFast",
        "name_or_path": "/home/somebody/model",
        "special_tokens_map_file": "/root/.cache/x.json",
        "inner": [{"auto_map": 1, "kept": "é"}],
    }
    (config := tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    fit = {"tokenizer_class": "PreTrainedTokenizerFast", "inner": [{"kept": "é"}]}
    assert json.loads(published_bytes(config)) == fit == published(settings)
    (vocabulary := tmp_path / "vocab.json").write_text('{"auto_map": 1, "name_or_path": 2}')
    (odd := tmp_path / "generation_config.json").write_text("[" * 100_000)
    (plain := tmp_path / "sub" / "tokenizer_config.json").parent.mkdir()
    plain.write_text('{"a":1}')
    for path in (vocabulary, odd, plain):
        assert published_bytes(path) == path.read_bytes()


APACHE = "                                 Apache License\n                           Version 2.0, January 2004\n"


@pytest.mark.parametrize(
    ("files", "terms"),
    [
        ({}, {}),
        ({"README.md": "no front matter"}, {}),
        ({"README.md": "---\nlicense: mit\ntags: [x]\n---\n# x"}, {"license": "mit"}),
        (
            {"README.md": "---\nlicense: other\nlicense_name: mine\nlicense_link: LICENSE\n---\n", "LICENSE": APACHE},
            {"license": "other", "license_name": "mine", "license_link": "LICENSE"},
        ),
        ({"LICENSE": APACHE}, {"license": "apache-2.0"}),
        ({"LICENSE.txt": "MIT License\n\nPermission is hereby granted, free of\ncharge, to"}, {"license": "mit"}),
        ({"LICENSE.md": "My terms", "NOTICE": "y"}, {"license": "other", "license_link": "LICENSE.md"}),
        ({"NOTICE": "y"}, {}),
        ({"README.md": "---\nlicense: [\n---\n"}, {}),
        ({"README.md": "---\n- license\n---\n"}, {}),
        ({"README.md": "---\nlicense: null\n---\n", "LICENSE": "x"}, {"license": "other", "license_link": "LICENSE"}),
    ],
)
def test_terms_are_what_is_known(tmp_path: Path, files: dict[str, str], terms: dict[str, str]) -> None:
    """The card's word, then the licence's text; nothing is guessed, and a card that cannot be read tells nothing."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert terms_of(tmp_path) == terms


@pytest.mark.parametrize("name", ["tokenizer_config.json", "vocab.txt", "spm.model", "chat_template.jinja", "LICENSE"])
def test_files_too_large_for_their_names(tmp_path: Path, name: str) -> None:
    """They are not read, and would be whole."""
    with (tmp_path / name).open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(ModelError, match=rf"{name}: .*more than 256.00 MiB.*Download"):
        [*companion_files(tmp_path), *licence_files(tmp_path)]

"""A model's own tokenizer: ids of text, chat templates, and what every sequence begins with."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from space.errors import CalibrationError, ModelError, in_one_line
from workers.models.companions import companion_files

_PROBE = "a b"
_NO_TOKENIZER = (
    *("generation_config", "chat_template", "modules", "sentence_bert_config"),
    *("config_sentence_transformers", "preprocessor_config", "processor_config", "video_preprocessor_config"),
)
_WORDS = ("Firstwords", "Secondwords", "Thirdwords")  # such as no template writes by itself


@dataclass(frozen=True, slots=True)
class Turns:
    """What a chat template writes around the words of a user and of the model, in ids.

    Attributes:
        begin: before a user's first words.
        answer: between a user's words and the answer.
        again: between an answer and a user's next words.

    """

    begin: tuple[int, ...]
    answer: tuple[int, ...]
    again: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TextTokenizer:
    """A loaded tokenizer.

    Attributes:
        folder: of its model.
        opening: what it puts before a single sequence, such as the token of its begin; empty where nothing.

    """

    folder: Path
    opening: tuple[int, ...]
    _tokenizer: Any

    def ids(self, text: str) -> list[int]:
        """Return the ids of a text, nothing before or behind it; it takes 160 bytes a character while it runs."""
        found: list[int] = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return found

    def encode(self, texts: list[str], pairs: list[str] | None, length: int, *, is_padded: bool = False) -> Any:
        """Return the (N, T) tensors that the tokenizer makes of texts or pairs, with its special tokens and padding.

        Args:
            texts: N of them.
            pairs: what goes into one sequence with each, or None.
            length: the most tokens of a sequence.
            is_padded: whether each has so many; otherwise as many as the longest.

        """
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token or self._tokenizer.unk_token
        options = {"truncation": True, "max_length": length, "return_tensors": "pt", "verbose": False}
        return self._tokenizer(texts, pairs, padding="max_length" if is_padded else True, **options)

    def encode_answers(self, texts: list[str], length: int) -> Any:
        """Return the (N, T) ids of answers as the tokenizer encodes what a model shall give."""
        options = {"padding": True, "truncation": True, "max_length": length, "return_tensors": "pt", "verbose": False}
        return self._tokenizer(text_target=texts, **options)["input_ids"]

    @property
    def prefix(self) -> tuple[int, ...]:
        """Return what every answer of a decoder begins with, where the tokenizer itself says so."""
        return tuple(getattr(self._tokenizer, "prefix_tokens", None) or ())

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of ids, without special tokens."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def turn(self, text: str) -> str:
        """Return a user's turn as the model's chat template writes it, up to where the answer begins.

        Raises:
            CalibrationError: there is no template, or it cannot write it.

        """
        return self._written([{"role": "user", "content": text}], add_generation_prompt=True)

    def chat(self, messages: list[Any]) -> str:
        """Return chat turns as the model's template writes them, without what begins every sequence anyway.

        Raises:
            CalibrationError: there is no template, or it cannot write them.

        """
        return self._written(messages)

    def turns(self) -> Turns:
        """Return what the model's chat template writes around words.

        Raises:
            CalibrationError: there is no template, or it does not write words as they are, one after the other.

        """
        if not self.has_template:
            raise CalibrationError(f"{self.folder}: it has no chat template; leave --calibration out.")
        roles = zip(("user", "assistant", "user"), _WORDS, strict=True)
        rest, parts = self._rendered([{"role": role, "content": words} for role, words in roles]), list[str]()
        for words in _WORDS:
            before, found, rest = rest.partition(words)
            parts.append(before)
            if not found:
                raise CalibrationError(f"{self.folder}: its chat template changes the words of turns.")
        begin, answer, again = (tuple(self.ids(part)) for part in parts)
        if not answer or not again:
            raise CalibrationError(f"{self.folder}: its chat template puts nothing between turns.")
        return Turns(begin, answer, again)

    @property
    def has_template(self) -> bool:
        """Tell whether the model has a chat template."""
        return bool(getattr(self._tokenizer, "chat_template", None))

    def _rendered(self, messages: list[Any], **options: Any) -> str:
        try:
            return str(self._tokenizer.apply_chat_template(messages, tokenize=False, **options))
        except Exception as error:  # templates are programs
            raise CalibrationError(
                f"the model's chat template cannot write its `messages`: {in_one_line(error)}."
            ) from error

    def _written(self, messages: list[Any], **options: Any) -> str:
        if not self.has_template:
            raise CalibrationError(
                f"it holds chat turns, and {self.folder} has no chat template that could write them: give a `text`."
            )
        written = self._rendered(messages, **options)
        begin = getattr(self._tokenizer, "bos_token", None)
        return written.removeprefix(begin) if begin and self.opening else written


def load_tokenizer(folder: Path) -> TextTokenizer:
    """Return a model's tokenizer.

    Raises:
        ModelError: there is none, a file of it is too large, or this version of transformers cannot load it.

    """
    from transformers import AutoTokenizer

    companion_files(folder)  # libraries read them whole, however large
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        opening = _opening(tokenizer)
    except Exception as error:  # the libraries raise many kinds, all of them about the folder's files
        raise ModelError(
            f"{folder}: its tokenizer cannot be loaded by transformers {version('transformers')}: {in_one_line(error)}."
        ) from error
    return TextTokenizer(folder, opening, tokenizer)


def _opening(tokenizer: Any) -> tuple[int, ...]:
    """Return what stands before a text that is a sequence of its own."""
    plain = list(tokenizer(_PROBE, add_special_tokens=False, verbose=False)["input_ids"])
    whole = list(tokenizer(_PROBE, add_special_tokens=True, verbose=False)["input_ids"])
    starts = range(len(whole) - len(plain) + 1)
    begin = next((start for start in starts if whole[start : start + len(plain)] == plain), 0)
    return tuple(whole[:begin])


def has_tokenizer(folder: Path) -> bool:
    """Tell whether a model's folder has files of a tokenizer."""
    return any(path.parent == folder and not path.name.startswith(_NO_TOKENIZER) for path in companion_files(folder))


def opening_of(folder: Path) -> tuple[int, ...]:
    """Return what a model's tokenizer begins every sequence with; nothing where it has no tokenizer."""
    return load_tokenizer(folder).opening if has_tokenizer(folder) else ()


class ChatWriter:
    """Writes chat turns with the template of a model, whose tokenizer is loaded when there are any."""

    def __init__(self, folder: Path | None) -> None:
        """Remember the model."""
        self._folder = folder

    def __call__(self, messages: list[Any]) -> str:
        """Return chat turns as text.

        Raises:
            CalibrationError: they cannot be written.
            ModelError: the model's tokenizer cannot be loaded.

        """
        return self._tokenizer.chat(messages)

    @cached_property
    def _tokenizer(self) -> TextTokenizer:
        if self._folder is None:
            raise CalibrationError("it holds chat turns, which only a model's chat template can write: give a `text`.")
        return load_tokenizer(self._folder)

"""What plans of each family are judged by, and what its models are asked on, as words that every face shows."""

import re
from dataclasses import dataclass
from typing import Any, Literal

Answer = Literal["classes", "vectors"]
Samples = Literal[
    "tokens",
    "texts",
    "embedded-texts",
    "answered-texts",
    "transcribed-audio",
    "audio",
    "images",
    "captioned-images",
    "images-in-text",
]
_SYMBOL = re.compile(r"\bKL\b")


@dataclass(frozen=True, slots=True)
class Metric:
    """The number that plans are compared by; records call it `kl_divergence`, whatever it is.

    Attributes:
        name: as people read it.
        symbol: the same in few letters, for columns.
        unit: what it is counted in; empty where it has none.
        beside: the second number, which records call `perplexity`; None where a family has none.

    """

    name: str = "KL divergence"
    symbol: str = "KL"
    unit: str = "nats per token"
    beside: str | None = "perplexity"

    @property
    def with_unit(self) -> str:
        """Return its name and what it is counted in."""
        return f"{self.name}, {self.unit}" if self.unit else self.name

    def told(self, text: str) -> str:
        """Return a text about KL divergences per token, and perplexities, in the words of this metric."""
        if self == Metric():
            return text
        text, beside = self.compared(text), self.beside or ""
        return _put(_put(text, "perplexity", beside), "Perplexity", beside[:1].upper() + beside[1:])

    def compared(self, text: str) -> str:
        """Return a text about KL divergences per token in the words of this metric."""
        if self == Metric():
            return text
        for plain, word in (
            ("KL divergence", self.name),
            (", nats per token", f", {self.unit}" if self.unit else ""),
            (" nats per token", f" {self.unit}" if self.unit else ""),
        ):
            text = _put(text, plain, word)
        return _SYMBOL.sub(self.symbol, text)

    @staticmethod
    def from_json(value: dict[str, Any] | None) -> "Metric":
        """Read a JSON object; documents of before had one metric and told none."""
        return Metric(**value) if value else Metric()


def _put(text: str, plain: str, word: str) -> str:
    """Return a text with a word in a plain one's place, wherever it does not stand there already.

    >>> _put("KL per token, KL per token of text", "per token", "per token of text")
    'KL per token of text, KL per token of text'
    """
    more = word.removeprefix(plain) if word.startswith(plain) else ""
    there = f"(?!{re.escape(more)})" if more else ""
    return re.sub(re.escape(plain) + there, lambda _: word, text)


KL = Metric()
"""what the answers of language models are compared by"""


@dataclass(frozen=True, slots=True)
class Question:
    """What the models of a family are asked, and how their answers are compared with those of the dense model.

    Attributes:
        metric: the number that comes out.
        samples: what they are asked on.
        answer: "classes" are distributions, compared by their KL divergence; "vectors" are directions, compared by one
            minus their cosine: the KL divergence of normal distributions of variance one around unit vectors.
        task: what hubs call what such models do.
        left_out: why parts of a model are not searched, where some are.
        reader: transformers' class that makes a user's inputs.
        takes_prompts: whether a user's own questions can be put to them: what comes next is told at every token.
        has_sequences: whether a sample is a sequence as long as is asked for; others have a length of their own.

    """

    metric: Metric = KL
    samples: Samples = "tokens"
    answer: Answer = "classes"
    task: str = "text-generation"
    left_out: str = "no text goes through it, and only the language model is searched"
    reader: str = "AutoTokenizer"
    has_sequences: bool = True
    takes_prompts: bool = False


_LIKELIEST = "perplexity of the dense model's likeliest class"
_OF_CLASSES = Metric(unit="nats per text", beside=_LIKELIEST)
_OWN_ATTENTION = "it is inside torch's own attention, which cannot be searched"
_COSINE = Metric("1 - cosine similarity", "1 - cos", "", None)
QUESTIONS: dict[str, Question] = {
    "causal-decoder": Question(takes_prompts=True),
    "multimodal-decoder": Question(takes_prompts=True),
    "masked-language-model": Question(Metric(unit="nats per replaced token"), task="fill-mask"),
    "text-classifier": Question(_OF_CLASSES, "texts", task="text-classification"),
    "text-embedder": Question(
        _COSINE, "embedded-texts", "vectors", "sentence-similarity", "the pooled output is not made with it"
    ),
    "encoder-decoder": Question(Metric(unit="nats per answered token"), "answered-texts", task="text2text-generation"),
    "speech-to-text": Question(
        Metric(unit="nats per transcribed token"),
        "transcribed-audio",
        task="automatic-speech-recognition",
        reader="AutoProcessor",
    ),
    "speech-frames": Question(
        Metric(unit="nats per frame", beside=_LIKELIEST),
        "audio",
        task="automatic-speech-recognition",
        reader="AutoProcessor",
    ),
    "image-classifier": Question(
        Metric(unit="nats per image", beside=_LIKELIEST),
        "images",
        "classes",
        "image-classification",
        _OWN_ATTENTION,
        "AutoImageProcessor",
        has_sequences=False,
    ),
    "image-embedder": Question(
        _COSINE,
        "images",
        "vectors",
        "image-feature-extraction",
        _OWN_ATTENTION,
        "AutoImageProcessor",
        has_sequences=False,
    ),
    "image-text-decoder": Question(
        Metric(unit="nats per caption token"),
        "images-in-text",
        task="image-text-to-text",
        left_out="neither images nor text go through it, or it is inside torch's own attention",
        reader="AutoProcessor",
        has_sequences=False,
    ),
    "image-text-embedder": Question(
        _COSINE,
        "captioned-images",
        "vectors",
        "zero-shot-image-classification",
        _OWN_ATTENTION,
        "AutoProcessor",
        has_sequences=False,
    ),
}
"""name of a family -> its question"""

"""llama.cpp itself, by the C interface of the `xllamacpp` package's library: tokens and logits of a file.

Structures are larger than llama.cpp's (they go by value, as memory), and only fields are touched that have stood at
their place for years. Run it in a process of its own: llama.cpp ends it where it meets what it does not expect.
Shape legend: B sequences, T tokens, V vocabulary.
"""

import ctypes
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from space.codings.cache_coding import GGML_CACHE_TYPES
from space.codings.ggml_types import GGML_TYPES
from space.errors import VerificationError
from space.level import DENSE, Level

_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_MAX_TOKENS = 2048  # of one batch, by default
_FLOAT16 = 1  # of `enum ggml_type`


class _Parameters(ctypes.Structure):
    """Parameters of a model or a context; the first field of a context's is the number of positions."""

    _fields_ = [("num_positions", ctypes.c_uint32), ("others", ctypes.c_uint8 * 1020)]

    def remember_in(self, cache_type: int) -> None:
        """Set the type of keys and that of values, which stand behind two empty pointers and are float16 by default.

        Raises:
            VerificationError: they stand at no such place, or at more than one.

        """
        known = bytes(2 * ctypes.sizeof(ctypes.c_void_p)) + struct.pack("=ii", _FLOAT16, _FLOAT16)
        if bytes(self).count(known) != 1:
            raise VerificationError("this llama.cpp cannot be told here in which type it remembers keys and values")
        at = ctypes.addressof(self) + bytes(self).index(known) + len(known) - 8
        ctypes.memmove(at, struct.pack("=ii", cache_type, cache_type), 8)


class _Batch(ctypes.Structure):
    """`llama_batch`."""

    _fields_ = [
        ("num_tokens", ctypes.c_int32),
        ("token", ctypes.POINTER(ctypes.c_int32)),
        ("embedding", ctypes.c_void_p),
        ("position", ctypes.POINTER(ctypes.c_int32)),
        ("num_sequences", ctypes.POINTER(ctypes.c_int32)),
        ("sequence", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        ("wants_logits", ctypes.POINTER(ctypes.c_int8)),
    ]


def is_installed() -> bool:
    """Tell whether llama.cpp can be asked here."""
    return find_spec("xllamacpp") is not None


_SAY_NOTHING = _CALLBACK(lambda _level, _text, _data: None)  # for lines of llama.cpp's log


def _library() -> ctypes.CDLL:
    spec = find_spec("xllamacpp")
    assert spec is not None and spec.origin is not None  # noqa: S101, PT018 (callers ask `is_installed`)
    library = ctypes.CDLL(str(next(Path(spec.origin).parent.glob("xllamacpp*.so"))))
    pointer, number = ctypes.c_void_p, ctypes.c_int32
    for name, returned, taken in (
        ("llama_model_default_params", _Parameters, []),
        ("llama_context_default_params", _Parameters, []),
        ("llama_model_load_from_file", pointer, [ctypes.c_char_p, _Parameters]),
        ("llama_init_from_model", pointer, [pointer, _Parameters]),
        ("llama_model_get_vocab", pointer, [pointer]),
        ("llama_vocab_n_tokens", number, [pointer]),
        ("llama_get_memory", pointer, [pointer]),
        ("llama_memory_clear", None, [pointer, ctypes.c_bool]),
        ("llama_set_n_threads", None, [pointer, number, number]),
        ("llama_batch_init", _Batch, [number, number, number]),
        ("llama_batch_free", None, [_Batch]),
        ("llama_decode", number, [pointer, _Batch]),
        ("llama_get_logits_ith", ctypes.POINTER(ctypes.c_float), [pointer, number]),
        ("llama_free", None, [pointer]),
        ("llama_model_free", None, [pointer]),
        (
            "llama_tokenize",
            number,
            [pointer, ctypes.c_char_p, number, ctypes.POINTER(number), number, ctypes.c_bool, ctypes.c_bool],
        ),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = returned, taken
    library.llama_log_set(_SAY_NOTHING, None)
    library.llama_backend_init()
    return library


class LlamaCpp:
    """A file that llama.cpp has loaded."""

    def __init__(self, library: Any, model: int, context: int) -> None:
        """Keep what `opened` made."""
        self._library, self._model, self._context = library, model, context
        self._vocabulary = library.llama_model_get_vocab(model)

    def tokenize(self, text: str) -> list[int]:
        """Return the ids of a text, nothing before or behind it; special tokens in it are text."""
        data = text.encode()
        room = len(data) + 16
        found = (ctypes.c_int32 * room)()
        count = self._library.llama_tokenize(self._vocabulary, data, len(data), found, room, False, False)
        return list(found[: max(0, count)])

    def logits(self, sequences: Tensor) -> Iterator[Tensor]:
        """Yield the (1, T, V) float32 logits of each of (B, T) sequences."""
        for sequence in sequences.tolist():
            self.forget()
            parts = [self._run(sequence[at : at + _MAX_TOKENS], at) for at in range(0, len(sequence), _MAX_TOKENS)]
            yield torch.cat(parts).unsqueeze(0)

    def forget(self) -> None:
        """Empty the cache."""
        self._library.llama_memory_clear(self._library.llama_get_memory(self._context), True)

    def read(self, tokens: Sequence[int], first: int) -> None:
        """Read tokens that stand from a position on, up to the answer to the last one."""
        for at in range(0, len(tokens), _MAX_TOKENS):
            self._decode(tokens[at : at + _MAX_TOKENS], first + at, wants_all=False)
        self._library.llama_get_logits_ith(self._context, -1)  # waits for it

    def _run(self, tokens: Sequence[int], first: int) -> Tensor:
        """Return the (T, V) logits of tokens that stand from a position on."""
        self._decode(tokens, first, wants_all=True)
        size = self._library.llama_vocab_n_tokens(self._vocabulary)
        rows = [self._library.llama_get_logits_ith(self._context, i) for i in range(len(tokens))]
        return torch.stack(
            [torch.frombuffer(bytearray(ctypes.string_at(row, 4 * size)), dtype=torch.float32) for row in rows]
        )

    def _decode(self, tokens: Sequence[int], first: int, *, wants_all: bool) -> None:
        """Run tokens; llama.cpp computes the logits of all, or of the last one alone."""
        library, count = self._library, len(tokens)
        batch = library.llama_batch_init(count, 0, 1)
        try:
            batch.num_tokens = count
            for i, token in enumerate(tokens):
                batch.token[i], batch.position[i], batch.num_sequences[i] = token, first + i, 1
                batch.sequence[i][0], batch.wants_logits[i] = 0, wants_all or i == count - 1
            if library.llama_decode(self._context, batch):
                raise VerificationError("llama.cpp cannot run the file")
        finally:
            library.llama_batch_free(batch)


@contextmanager
def opened(path: Path, num_positions: int, threads: int = 1, cache: Level = DENSE) -> Iterator[LlamaCpp]:
    """Yield a file as llama.cpp has loaded it.

    Args:
        path: the file.
        num_positions: room for so many tokens.
        threads: of its kernels.
        cache: of keys and values; a dense one is float16.

    Raises:
        VerificationError: it cannot load the file, or cannot remember in that type.

    """
    library = _library()
    model = library.llama_model_load_from_file(str(path).encode(), library.llama_model_default_params())
    if not model:
        raise VerificationError(f"llama.cpp cannot load {path.name}")
    parameters = library.llama_context_default_params()
    parameters.num_positions = num_positions
    if cache.bits is not None:
        parameters.remember_in(GGML_TYPES[GGML_CACHE_TYPES[cache.bits]].number)
    context = library.llama_init_from_model(model, parameters)
    if not context:
        library.llama_model_free(model)
        raise VerificationError(f"llama.cpp cannot run {path.name} with what it was told of its cache")
    try:
        library.llama_set_n_threads(context, threads, threads)
        yield LlamaCpp(library, model, context)
    finally:
        library.llama_free(context)
        library.llama_model_free(model)

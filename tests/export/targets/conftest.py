"""Tiny decoders with levels and answers, made once for a file of tests."""

from functools import cache
from pathlib import Path

import pytest

from tests.export.decoder_models import DecoderBenches, DecoderKind, make_decoder
from tests.workers.tiny_models import Bench, make_bench


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> DecoderBenches:
    """Give the bench of a kind of model."""

    def make(kind: DecoderKind) -> Bench:
        folder = make_decoder(tmp_path_factory.mktemp("model"), kind)  # llama.cpp looks at names
        return make_bench(folder, tmp_path_factory.mktemp(f"cache-{kind}"), text_file)

    return cache(make)

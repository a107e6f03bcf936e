"""Text that a recovery learns from: none of what the front was judged on is in it.

Sequences that share a run of tokens with held-out text are left out, wherever they come from.
Shape legend: N sequences, T tokens, W windows.
"""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from space.errors import CalibrationError
from workers.model_inputs import ModelInputs, Samples
from workers.recover.recovery import Text
from workers.tasks import PrepareText, Teach, Workspace
from workers.text.text_sources import STDLIB, is_sampled
from workers.text.tokens import TextRequest, TokenSet, save_samples, save_tokens
from workers.worker import Worker

SHARED_RUN = 32
"""so many equal tokens in a row and a sequence is held to be the same text"""
_LEAST_TRAINING = 8
_MULTIPLIER = 6_364_136_223_846_793_005
NUM_SEQUENCES = 640
"""to train on, where there are so many"""


def training_text(
    workspace: Workspace, tokens: TokenSet, request: TextRequest, num_sequences: int, *, is_own: bool
) -> Text:
    """Return text to train on ("calibration") and to select by ("search"), with the dense model's answers to it.

    Args:
        workspace: the dense model.
        tokens: the job's text.
        request: where more of it comes from; its `seed` is not the job's where text is sampled.
        num_sequences: to train on, at most.
        is_own: it is text of its own, not more of the job's: selection text is taken of it, too.

    Raises:
        CalibrationError: there is not enough of it.

    """
    worker, held_out = Worker(workspace), tokens.load("held_out")
    more = more_text(worker, request, num_sequences)
    train, selection = more.load("calibration"), more.load("search")
    if not is_own:
        selection = tokens.load("search")
        train = torch.cat([tokens.load("calibration"), train]) if is_sampled(request.source) else train
    train = train[unshared(train, held_out)]
    train = train[unshared(train, selection)]
    selection = selection[unshared(selection, held_out)]
    if len(train) < _LEAST_TRAINING or not len(selection):
        told = f"{len(train)} sequences are left to train on apart from held-out text, {_LEAST_TRAINING} are needed"
        raise CalibrationError(f"{request.source or 'sampled text'}: {told}. Give other text with --text.")
    picks = torch.linspace(0, len(train) - 1, min(num_sequences, len(train))).round().long()
    splits = {"calibration": train[picks], "search": selection, "held_out": held_out}
    save: Any = save_samples if isinstance(held_out, ModelInputs) else save_tokens
    named: TokenSet = save(splits, Path(workspace.cache_folder), more.note)
    for split in ("calibration", "search"):
        worker.run(Teach(named, split))
    return Text(named, lambda split: worker.teacher_path(named, split))


def more_text(worker: Worker, request: TextRequest, num_sequences: int) -> TokenSet:
    """Return more of the same: a file is divided at the same places, so that its splits stay apart.

    Of the standard library it is nearly all that there is, where that is less than what is asked for.
    """
    if is_sampled(request.source):
        asked = replace(request, num_calibration=num_sequences, num_search=2, num_held_out=2)
    elif request.source == STDLIB:  # its splits lie apart, and it tells how much it has by refusing more
        count = num_sequences
        while count > request.num_calibration:
            with suppress(CalibrationError):
                return worker.prepare_text(PrepareText(replace(request, num_calibration=count)))
            count = count * 3 // 4
        asked = request
    else:
        times = -(-num_sequences // request.num_calibration)
        asked = replace(
            request,
            num_calibration=times * request.num_calibration,
            num_search=times * request.num_search,
            num_held_out=times * request.num_held_out,
        )
    return worker.prepare_text(PrepareText(asked))


def unshared(samples: Samples, others: Samples) -> Tensor:
    """Return the (n,) indices of samples that share no run of tokens with others; padded ones are shared as wholes.

    What all of them begin with, such as what a chat template writes, is nobody's text.
    """
    rows, known = _ids(samples), _ids(others)
    if isinstance(samples, Tensor):
        begin = _common_begin(rows, known)
        rows, known = rows[:, begin:], known[:, begin:]
    width = max(rows.shape[1], known.shape[1])
    run = width if isinstance(samples, ModelInputs) else min(SHARED_RUN, width)
    rows, known = (functional.pad(ids, (0, width - ids.shape[1])) for ids in (rows, known))
    shared = torch.isin(_windows(rows, run), _windows(known, run).flatten()).any(1)
    return (~shared).nonzero().squeeze(1)


def _ids(samples: Samples) -> Tensor:
    """Return (N, T) token ids."""
    if isinstance(samples, Tensor):
        return samples
    return next(tensor for name, tensor in samples.tensors.items() if name.endswith("input_ids"))


def _common_begin(rows: Tensor, known: Tensor) -> int:
    """Return how many tokens all rows of both begin with; none where that would be all that there is."""
    length = min(rows.shape[1], known.shape[1])
    both = torch.cat([rows[:, :length], known[:, :length]])
    differs = (both != both[:1]).any(0).nonzero()
    return int(differs[0]) if len(differs) else 0


def _windows(rows: Tensor, run: int) -> Tensor:
    """Return (N, W) numbers that name each run of tokens, by their polynomial modulo 2^64."""
    found = torch.zeros(len(rows), rows.shape[1] - run + 1, dtype=torch.long)
    for place in range(run):
        found = found * _MULTIPLIER + rows[:, place : place + found.shape[1]] + 1
    return found

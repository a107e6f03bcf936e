"""All families by name; the first that a config matches is the family of its model.

What a job is given decides between two families that a config matches alike: one that reads images comes first where
it is given images.
"""

from typing import Any

from workers.families.family import Family
from workers.families.kinds.causal_decoder import CAUSAL_DECODER
from workers.families.kinds.encoder_decoder import ENCODER_DECODER, SPEECH_TO_TEXT
from workers.families.kinds.image_models import IMAGE_CLASSIFIER, IMAGE_EMBEDDER, IMAGE_TEXT_EMBEDDER
from workers.families.kinds.image_text_decoder import IMAGE_TEXT_DECODER
from workers.families.kinds.multimodal_decoder import MULTIMODAL_DECODER
from workers.families.kinds.speech_frames import SPEECH_FRAMES
from workers.families.kinds.text_embedder import TEXT_EMBEDDER
from workers.families.kinds.text_encoder import MASKED_LANGUAGE_MODEL, TEXT_CLASSIFIER

_OF_SOUND = (ENCODER_DECODER, SPEECH_TO_TEXT, SPEECH_FRAMES)
_OF_IMAGES = (IMAGE_CLASSIFIER, IMAGE_EMBEDDER, IMAGE_TEXT_EMBEDDER, IMAGE_TEXT_DECODER)
_OF_TEXT = (CAUSAL_DECODER, MULTIMODAL_DECODER, MASKED_LANGUAGE_MODEL, TEXT_CLASSIFIER, TEXT_EMBEDDER)
_ALL = (*_OF_TEXT, *_OF_SOUND, *_OF_IMAGES)
FAMILIES: dict[str, Family] = {family.name: family for family in _ALL}


def family_of(config: Any, named: str | None, *, images: bool = False) -> Family | None:
    """Return the family of a config that names a class, of a job that is given images or not; None: none claims it."""
    order = sorted(FAMILIES.values(), key=lambda family: images and "images" not in family.question.samples)
    return next((family for family in order if family.matches(config, named)), None)

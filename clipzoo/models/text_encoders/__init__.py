"""Text towers and their tokenizers."""

from clipzoo.models.text_encoders.base import TextEncoder
from clipzoo.models.text_encoders.bert import BERT
from clipzoo.models.text_encoders.clip_text import CLIPText
from clipzoo.models.text_encoders.hf_text import HFText
from clipzoo.models.text_encoders.open_clip_text import OpenCLIPText

__all__ = ["BERT", "CLIPText", "HFText", "OpenCLIPText", "TextEncoder"]

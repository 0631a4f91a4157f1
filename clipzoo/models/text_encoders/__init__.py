"""Text towers and their tokenizers."""

from clipzoo.models.text_encoders.base import TextEncoder
from clipzoo.models.text_encoders.bert import BERT
from clipzoo.models.text_encoders.clip_text import CLIPText
from clipzoo.models.text_encoders.hf_text import HFText

__all__ = ["BERT", "CLIPText", "HFText", "TextEncoder"]

"""A BERT's folder, with a vocabulary of characters."""

from pathlib import Path

from clipzoo.models.text_encoders.tokenizer import character_vocabulary


def bert_repository(folder: Path) -> None:
    """``config.json`` and the tokenizer, without weights."""
    from transformers import BertConfig, BertTokenizer

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertConfig(vocab_size=len(character_vocabulary()), max_position_embeddings=40, **sizes).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(character_vocabulary()), encoding="utf-8")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)

"""The default tokenizer: a byte is a token. Built here, without a network."""

from collections.abc import Sequence
from typing import Any

END = "<|end|>"
END_ID = 256
BYTE_VOCAB = 257
"""256 bytes, their ids their values, and the end of a document."""

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


class Bytes:
    """What this package asks of a tokenizer, for bytes, without the libraries that Hugging Face's needs.

    Its ids are those of :func:`byte_tokenizer`, which takes ``<|end|>`` in a text for the end of a document.
    """

    eos_token_id = END_ID

    def __len__(self) -> int:
        return BYTE_VOCAB

    def encode(self, text: str) -> list[int]:
        """The bytes of the text in UTF-8."""
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        """The text of these bytes; what is no UTF-8 becomes U+FFFD, the end of a document nothing."""
        return bytes(number for number in ids if number < END_ID).decode(errors="replace")


def encode(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text and of nothing else: many tokenizers put a beginning or an end around it."""
    if isinstance(tokenizer, Bytes):
        return tokenizer.encode(text)
    return list(tokenizer.encode(text, add_special_tokens=False))


def byte_tokenizer() -> Any:
    """A Hugging Face tokenizer whose ids 0 ... 255 are the bytes of UTF-8 text, and 256 the end of a document.

    >>> tokenizer = byte_tokenizer()
    >>> tokenizer.encode("né"), tokenizer.eos_token_id
    ([110, 195, 169], 256)
    """
    # Here, since transformers takes longer to import than everything else together.
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {character: byte for byte, character in enumerate(_characters())}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=END, clean_up_tokenization_spaces=False, model_max_length=10**9
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _characters() -> list[str]:
    """The printable character that byte-level tokenizers write for each byte (GPT-2's table)."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]
